package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// PeaksMediaType is the media type of what [Peaks.WriteTo] writes.
const PeaksMediaType = "application/octet-stream"

const (
	// peaksRate is the sample rate, in hertz, of the audio that peaks are taken from.
	peaksRate = 8000
	// samplesPerPixel makes 20 pairs a second.
	samplesPerPixel = 400
	// maxChannels is how many channels of a recording are drawn.
	maxChannels = 8
	peaksHeader = 24
	maxPeaks    = 64 << 20 // bytes; 24 hours of 8 channels take 28 MB
)

// ErrPeaks says that bytes are no 8-bit waveform data of version 2.
var ErrPeaks = errors.New("no waveform data")

// Peaks is a waveform: for each pixel and channel the least and the greatest
// sample, in the layout of the BBC's audiowaveform, version 2, 8 bits
// (audiowaveform, doc/DataFormat.md). wavesurfer.js, peaks.js and waveform-data.js draw it.
type Peaks struct {
	SampleRate      int // hertz
	SamplesPerPixel int
	Channels        int
	// Data holds minimum and maximum of each channel, pixel after pixel.
	Data []int8
}

// Len returns the number of pixels.
func (p *Peaks) Len() int { return len(p.Data) / (2 * p.Channels) }

// WriteTo writes the waveform as audiowaveform's .dat file.
func (p *Peaks) WriteTo(w io.Writer) (int64, error) {
	file := make([]byte, peaksHeader, peaksHeader+len(p.Data))
	const version, eightBits = 2, 1
	for i, v := range []int{version, eightBits, p.SampleRate, p.SamplesPerPixel, p.Len(), p.Channels} {
		binary.LittleEndian.PutUint32(file[4*i:], uint32(v))
	}
	for _, v := range p.Data {
		file = append(file, byte(v))
	}
	n, err := w.Write(file)
	if err != nil {
		return int64(n), fmt.Errorf("write peaks: %w", err)
	}
	return int64(n), nil
}

// ReadPeaks reads what [Peaks.WriteTo] wrote, and 8-bit files of version 2 by
// audiowaveform itself. It returns [ErrPeaks] for all else, and for a file that
// is shorter or longer than its header says.
func ReadPeaks(r io.Reader) (Peaks, error) {
	var header [6]int32
	if err := binary.Read(r, binary.LittleEndian, &header); err != nil {
		return Peaks{}, unreadable(err)
	}
	version, flags, length := header[0], header[1], int64(uint32(header[4]))
	p := Peaks{SampleRate: int(header[2]), SamplesPerPixel: int(header[3]), Channels: int(header[5])}
	switch {
	case version != 2 || flags&1 == 0:
		return Peaks{}, fmt.Errorf("%w: version %d, flags %#x", ErrPeaks, version, flags)
	case p.SampleRate < 1 || p.SamplesPerPixel < 1 || p.Channels < 1 || p.Channels > 24:
		return Peaks{}, fmt.Errorf("%w: header out of range", ErrPeaks)
	case length*2*int64(p.Channels) > maxPeaks:
		return Peaks{}, fmt.Errorf("%w: longer than %d bytes", ErrPeaks, maxPeaks)
	}
	want := length * 2 * int64(p.Channels)
	data, err := io.ReadAll(io.LimitReader(r, want+1))
	if err != nil {
		return Peaks{}, unreadable(err)
	}
	if int64(len(data)) != want {
		return Peaks{}, fmt.Errorf("%w: length differs from the header", ErrPeaks)
	}
	p.Data = make([]int8, len(data))
	for i, b := range data {
		p.Data[i] = int8(b)
	}
	return p, nil
}

func unreadable(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut short", ErrPeaks)
	}
	return fmt.Errorf("read peaks: %w", err)
}

// A meter takes interleaved little-endian 16-bit samples and keeps their peaks.
// It holds two bytes for every 50 ms of a channel.
type meter struct {
	peaks   Peaks
	samples int64 // of each channel
	low     []int16
	high    []int16
	partial []byte // of a frame that a write cut
}

func newMeter(channels int) *meter {
	return &meter{
		peaks: Peaks{SampleRate: peaksRate, SamplesPerPixel: samplesPerPixel, Channels: channels},
		low:   make([]int16, channels), high: make([]int16, channels),
	}
}

// Write never fails.
func (m *meter) Write(p []byte) (int, error) {
	size := 2 * m.peaks.Channels
	rest := p
	if len(m.partial) > 0 {
		rest = append(m.partial, p...)
	}
	for ; len(rest) >= size; rest = rest[size:] {
		m.frame(rest[:size])
	}
	m.partial = append(m.partial[:0:0], rest...)
	return len(p), nil
}

func (m *meter) frame(frame []byte) {
	if m.samples%samplesPerPixel == 0 {
		m.pixel()
	}
	for c := range m.low {
		v := int16(binary.LittleEndian.Uint16(frame[2*c:]))
		m.low[c], m.high[c] = min(m.low[c], v), max(m.high[c], v)
	}
	m.samples++
}

// pixel closes the pixel before, if any, and opens the next.
func (m *meter) pixel() {
	for c := range m.low {
		if m.samples > 0 {
			// Like audiowaveform: towards zero, so that near-silence draws as silence.
			m.peaks.Data = append(m.peaks.Data, int8(m.low[c]/256), int8(m.high[c]/256))
		}
		m.low[c], m.high[c] = 32767, -32768
	}
}

// finish returns the waveform, with the last pixel made of what samples it got.
func (m *meter) finish() *Peaks {
	m.pixel()
	return &m.peaks
}
