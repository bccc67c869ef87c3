// Reads a waveform in the layout of the BBC's audiowaveform, version 2, 8 bits
// (audiowaveform, doc/DataFormat.md): little-endian version, flags, sample rate,
// samples per pixel, length and channels, 32 bits each, then for each pixel and
// channel its least and greatest sample.

export interface Waveform {
  /** Seconds that the waveform covers. */
  duration: number;
  /** For each channel, minimum and maximum of each pixel in turn, from -1 to 1. */
  channels: Float32Array[];
}

const headerBytes = 24;

export function readPeaks(data: ArrayBuffer): Waveform {
  const view = new DataView(data);
  if (data.byteLength < headerBytes || view.getInt32(0, true) !== 2 || (view.getUint32(4, true) & 1) !== 1) {
    throw new Error("no 8-bit waveform of version 2");
  }
  const sampleRate = view.getInt32(8, true);
  const samplesPerPixel = view.getInt32(12, true);
  const length = view.getUint32(16, true);
  const count = view.getInt32(20, true);
  if (count < 1 || data.byteLength < headerBytes + 2 * length * count) {
    throw new Error("the waveform is shorter than it says");
  }
  const channels = Array.from({ length: count }, () => new Float32Array(2 * length));
  let at = headerBytes;
  for (let pixel = 0; pixel < length; pixel++) {
    for (const channel of channels) {
      channel[2 * pixel] = view.getInt8(at) / 128;
      channel[2 * pixel + 1] = view.getInt8(at + 1) / 128;
      at += 2;
    }
  }
  return { duration: (length * samplesPerPixel) / sampleRate, channels };
}
