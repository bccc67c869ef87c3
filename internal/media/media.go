// Package media tells what is in an audio file: whether it is audio at all
// ([Sniff]), what ffprobe and a full decode say of it ([Analyse]), its waveform
// ([Peaks]) and a copy that browsers play ([ListeningCopy]).
//
// ffmpeg and ffprobe run as child processes under limits of time, memory and
// output. They read the recording over a loopback connection, so decrypted
// audio never touches a disk, and they can reach neither files nor other hosts.
// All functions are safe for concurrent use.
package media

import (
	"errors"
	"io"
	"slices"
	"time"
)

var (
	// ErrNotAudio says that the bytes are no audio that the archive takes.
	ErrNotAudio = errors.New("not audio")
	// ErrUndecodable says that ffmpeg finds no audio to copy in the recording.
	// Trying again does not help.
	ErrUndecodable = errors.New("audio cannot be decoded")
	// ErrTool says that ffmpeg or ffprobe is missing or does not run.
	ErrTool = errors.New("media tool does not run")
	// ErrTimeout says that the time ran out, by the caller's deadline or by our
	// own limit, for a reason that need not lie in the recording (a file that
	// costs too much is flagged [FlagTooLong] instead). Trying again may help.
	ErrTimeout = errors.New("media tool timed out")
	// ErrSource says that the recording could not be read. It wraps the cause.
	ErrSource = errors.New("recording cannot be read")
)

// Flags that a [Type] or an [Info] carries.
const (
	// FlagEmpty marks a recording without a single sample, as PBXs write for
	// calls that nobody answered.
	FlagEmpty = "empty"
	// FlagUnclosed marks a header that was never completed; the audio up to the
	// end of the file is good.
	FlagUnclosed = "unclosed"
	// FlagUndecodable marks a file in which ffmpeg finds no audio that it can decode.
	FlagUndecodable = "undecodable"
	// FlagDamaged marks a file of which most, but not all, failed to decode.
	FlagDamaged = "damaged"
	// FlagLyingHeader marks a header that states another duration than is there.
	FlagLyingHeader = "lying_header"
	// FlagNoAudioStream marks a media file that holds no audio stream.
	FlagNoAudioStream = "no_audio_stream"
	// FlagVideo marks a file that holds moving pictures beside the audio.
	FlagVideo = "video"
	// FlagTooLong marks a file that was measured only in part, because it holds
	// more than 24 hours of audio or takes too much computing to decode.
	FlagTooLong = "too_long"
)

// Info is what a recording holds, as measured.
type Info struct {
	Container  string        // as in Type
	Codec      string        // ffmpeg's name: "pcm_s16le", "gsm_ms", "opus" …
	Channels   int           // of the first audio stream
	SampleRate int           // hertz, as stored
	Duration   time.Duration // of the decoded audio, to the millisecond
	BitRate    int64         // bits per second: the whole file over Duration
	Flags      []string      // Flag constants, without repetition
}

// Has reports whether the recording carries the flag.
func (i Info) Has(flag string) bool { return slices.Contains(i.Flags, flag) }

func (i *Info) flag(flag string) {
	if !i.Has(flag) {
		i.Flags = append(i.Flags, flag)
	}
}

// Source is a recording to be read, in the clear. Its ReaderAt must allow
// parallel reads, is read in pieces of about 32 KiB, mostly in order, and is no
// longer used once the function that it was given to has returned. A read that
// hangs holds that function up: reads must end when the caller's context does.
type Source struct {
	io.ReaderAt
	Size int64 // bytes
	Type
}

// Open makes a Source of size bytes of which only the media type is remembered
// that [Sniff] once found. The bytes are looked at again; the media type decides
// only for the raw formats, which cannot be told from their bytes. It returns
// [ErrNotAudio] and [ErrSource].
func Open(r io.ReaderAt, size int64, mediaType string) (Source, error) {
	head := make([]byte, min(size, HeadSize))
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), head); err != nil {
		return Source{}, errors.Join(ErrSource, err)
	}
	kind, err := sniff(head, size, rawByMediaType(mediaType), mediaType)
	if err != nil {
		return Source{}, err
	}
	return Source{ReaderAt: r, Size: size, Type: kind}, nil
}
