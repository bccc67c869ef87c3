package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

// Analyse measures a recording: ffprobe reads its headers, then ffmpeg decodes it
// once, from which come the true duration and the waveform. The waveform is
// written to peaks in the form that [ReadPeaks] reads; nothing is written for a
// recording without a sample.
//
// What is wrong with the file itself is told in the flags, never as an error, so
// that a job is not tried again in vain. Errors are [ErrTool], [ErrTimeout],
// [ErrSource], the end of ctx, and failures to write peaks.
func Analyse(ctx context.Context, src Source, peaks io.Writer) (Info, error) {
	info, err := standard.analyse(ctx, src, peaks)
	if err != nil {
		return Info{}, fmt.Errorf("analyse audio: %w", err)
	}
	return info, nil
}

func (l limits) analyse(ctx context.Context, src Source, peaks io.Writer) (Info, error) {
	info := Info{Container: src.Container, Codec: src.Codec, Flags: slices.Clone(src.Flags)}
	if info.Has(FlagEmpty) {
		return info, nil
	}
	var waveform *Peaks
	err := l.withSource(ctx, src, func(ctx context.Context, input *loopback) error {
		header, err := l.probe(ctx, input)
		if err != nil || !info.describe(header) {
			return err
		}
		waveform, err = l.measure(ctx, input, header, &info)
		return err
	})
	if err != nil || waveform == nil {
		return info, err
	}
	_, err = waveform.WriteTo(peaks)
	return info, err
}

// withSource serves the source while do runs. A failure of the source comes
// before all that the tools made of it.
func (l limits) withSource(ctx context.Context, src Source, do func(context.Context, *loopback) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, l.wall)
	defer cancel()
	input, err := serve(src)
	if err != nil {
		return err
	}
	defer func() {
		closed := input.close()
		switch failed := input.err(); {
		case ctx.Err() != nil:
			err = interrupted(ctx)
		case failed != nil:
			err = fmt.Errorf("%w: %w", ErrSource, failed)
		case err == nil:
			err = closed
		}
	}()
	return do(ctx, input)
}

// describe takes over what the headers say, and reports whether there is
// anything to decode.
func (i *Info) describe(header probe) bool {
	audio := false
	for _, stream := range header.Streams {
		switch {
		case stream.Type == "audio" && !audio:
			audio = true
			i.Codec, i.Channels, i.SampleRate = stream.Codec, stream.Channels, stream.SampleRate
		case stream.Type == "video" && stream.Disposition.AttachedPicture == 0:
			i.flag(FlagVideo)
		}
	}
	switch {
	case header.outcome.spent:
		i.flag(FlagTooLong)
	case !audio && len(header.Streams) > 0:
		i.flag(FlagNoAudioStream)
	case !audio || i.Channels < 1:
		i.flag(FlagUndecodable)
	}
	return audio && i.Channels > 0
}

// maxHeaders is the most, in bytes, that a file without a sample is made of: a
// FLAC header is padded to 8 KiB.
const maxHeaders = 16 << 10

// measure decodes the audio. It returns no waveform if there is no sample.
func (l limits) measure(ctx context.Context, input *loopback, header probe, info *Info) (*Peaks, error) {
	channels := min(info.Channels, maxChannels)
	m := newMeter(channels)
	bound := int64(l.audio/time.Second)*peaksRate*2*int64(channels) + 1
	out, err := l.decode(ctx, input, append(keepChannels(info.Channels),
		"-ar", strconv.Itoa(peaksRate), "-c:a", "pcm_s16le", "-f", "s16le"),
		func(r io.Reader) error {
			_, err := io.Copy(m, io.LimitReader(r, bound))
			return err
		})
	if err != nil {
		return nil, err
	}
	info.Duration = (time.Duration(m.samples) * time.Second / peaksRate).Round(time.Millisecond)
	switch {
	case out.spent || m.samples >= int64(l.audio/time.Second)*peaksRate:
		info.flag(FlagTooLong)
	case m.samples == 0 && out.ok && input.source.Size <= maxHeaders:
		// Headers and nothing more. In a larger file, something was not understood.
		info.flag(FlagEmpty)
	case m.samples == 0:
		info.flag(FlagUndecodable)
	case !out.ok:
		info.flag(FlagDamaged)
	}
	if m.samples == 0 {
		return nil, nil
	}
	info.BitRate = int64(float64(input.source.Size) * 8 / (float64(m.samples) / peaksRate))
	if header.lies(info) {
		info.flag(FlagLyingHeader)
	}
	return m.finish(), nil
}

// lies reports whether the header states a duration that is not there. Codecs
// pad and cut at both ends, so a second, or one part in fifty, is no lie.
func (p probe) lies(measured *Info) bool {
	if p.estimated || p.Format.Duration <= 0 || measured.Has(FlagUnclosed) || measured.Has(FlagTooLong) {
		return false
	}
	truth := measured.Duration.Seconds()
	return math.Abs(p.Format.Duration-truth) > max(1, truth/50)
}

// keepChannels makes ffmpeg write the first channels of n as they are, without
// mixing. Up to 8 it does so unasked; for one and two it is asked, because those
// are the ones that change in the middle of a chained file.
func keepChannels(n int) []string {
	switch {
	case n <= 2:
		return []string{"-ac", strconv.Itoa(n)}
	case n <= maxChannels:
		return nil
	}
	return []string{"-af", "pan=7.1|c0=c0|c1=c1|c2=c2|c3=c3|c4=c4|c5=c5|c6=c6|c7=c7"}
}

// ListeningCopyMediaType is the media type of what [ListeningCopy] writes.
const ListeningCopyMediaType = "audio/mpeg"

// NeedsListeningCopy reports whether a browser needs a copy to play the
// recording. It names as playable only what Chromium, Firefox and Safari all
// play and seek in. A recording without audio needs none.
func NeedsListeningCopy(info Info) bool {
	for _, flag := range []string{FlagEmpty, FlagUndecodable, FlagNoAudioStream} {
		if info.Has(flag) {
			return false
		}
	}
	playable := map[string][]string{
		"wav": {"pcm_u8", "pcm_s16le"}, "mp3": {"mp3"}, "flac": {"flac"}, "mp4": {"aac"},
	}
	sound := !info.Has(FlagUnclosed) && !info.Has(FlagLyingHeader) && !info.Has(FlagDamaged) && !info.Has(FlagVideo)
	return !sound || info.Channels > 2 || !slices.Contains(playable[info.Container], info.Codec)
}

// ListeningCopy writes an MP3 of the recording to w while it is decoded: of
// constant bit rate, so that a player can seek in it, mono or stereo, without
// the tags of the original. Two channels stay apart, more are mixed to stereo.
//
// It returns [ErrUndecodable] if there is no audio to copy, otherwise the errors
// of [Analyse] and those of w. After an error, what was written is to be thrown away.
func ListeningCopy(ctx context.Context, src Source, w io.Writer) error {
	if err := standard.listeningCopy(ctx, src, w); err != nil {
		return fmt.Errorf("make a listening copy: %w", err)
	}
	return nil
}

func (l limits) listeningCopy(ctx context.Context, src Source, w io.Writer) error {
	if slices.Contains(src.Flags, FlagEmpty) {
		return ErrUndecodable
	}
	return l.withSource(ctx, src, func(ctx context.Context, input *loopback) error {
		header, err := l.probe(ctx, input)
		if err != nil {
			return err
		}
		var info Info
		if !info.describe(header) {
			return ErrUndecodable
		}
		return l.encode(ctx, input, info, w)
	})
}

// errTooMuch stops a copy that outgrew what 24 hours can take.
var errTooMuch = errors.New("the copy grew beyond its bound")

func (l limits) encode(ctx context.Context, input *loopback, info Info, w io.Writer) error {
	rate, kilobits := mp3Rate(info.SampleRate)
	channels := min(info.Channels, 2)
	bound := int64(l.audio/time.Second+10) * int64(kilobits*channels) * 125
	written := int64(0)
	output := append(mixChannels(info.Channels),
		"-ar", strconv.Itoa(rate), "-c:a", "libmp3lame", "-b:a", strconv.Itoa(kilobits*channels)+"k",
		// Every frame by itself and no index frame: a player finds a time by
		// counting bytes, and the index would need seeking back in the output.
		// Joint stereo would let one side of the call be heard in the other.
		"-reservoir", "0", "-joint_stereo", "0", "-write_xing", "0", "-id3v2_version", "0", "-f", "mp3")
	_, err := l.decode(ctx, input, output, func(r io.Reader) (err error) {
		if written, err = io.Copy(w, io.LimitReader(r, bound)); written == bound {
			return errTooMuch
		}
		return err
	})
	if err == nil && written == 0 {
		return ErrUndecodable
	}
	return err
}

// mp3Rate picks a sample rate that MPEG-1 or MPEG-2 layer III has (browsers
// differ over 2.5, which telephony's 8 kHz would need) and kilobits per channel.
func mp3Rate(sampleRate int) (hertz, kilobits int) {
	switch {
	case sampleRate <= 16000:
		return 16000, 32
	case sampleRate <= 24000:
		return 24000, 48
	}
	return 48000, 64
}

func mixChannels(n int) []string {
	if n > maxChannels {
		return append(keepChannels(n), "-ac", "2")
	}
	return []string{"-ac", strconv.Itoa(min(n, 2))}
}
