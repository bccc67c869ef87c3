package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limits bound what one recording may cost.
type limits struct {
	wall   time.Duration // a whole call
	cpu    time.Duration // one child; whole seconds
	memory uint64        // address space of a child, in bytes
	audio  time.Duration // decoded audio
}

var standard = limits{wall: time.Hour, cpu: 15 * time.Minute, memory: 2 << 30, audio: 24 * time.Hour}

// An outcome is how a child ended that ran and was not stopped from outside.
type outcome struct {
	ok     bool   // exit status 0
	spent  bool   // ended by the CPU limit
	stderr string // the beginning of it; may repeat personal data from the file's tags
}

// run starts ffmpeg or ffprobe and hands its standard output to consume. The
// child is killed when consume returns an error, which run then returns.
func (l limits) run(ctx context.Context, tool string, env, args []string, consume func(io.Reader) error) (outcome, error) {
	path, err := exec.LookPath(tool)
	if err != nil {
		return outcome{}, fmt.Errorf("%w: %w: install ffmpeg", ErrTool, err)
	}
	var stderr beginning
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		return outcome{}, fmt.Errorf("%w: %w: install util-linux", ErrTool, err)
	}
	cmd := exec.CommandContext(ctx, prlimit, slices.Concat(l.flags(), []string{"--", path}, args)...)
	cmd.Env = env
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, fmt.Errorf("%w: %w", ErrTool, err)
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, fmt.Errorf("%w: %w", ErrTool, err)
	}
	if err = consume(stdout); err != nil {
		err = errors.Join(err, ignore(cmd.Cancel(), syscall.ESRCH))
	}
	waited := cmd.Wait()
	if ctx.Err() != nil {
		return outcome{}, interrupted(ctx)
	}
	if err != nil {
		return outcome{}, err
	}
	return l.judge(cmd, waited, string(stderr.text))
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// interrupted tells a deadline, ours or the caller's, from a caller who gave up.
func interrupted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
	return ctx.Err()
}

// flags are prlimit's. It sets the limits before it becomes the tool; set on a
// running child, they would come too late for what it does first. The child may
// write no file at all, not even a core dump, since what it holds is somebody's voice.
func (l limits) flags() []string {
	return []string{
		fmt.Sprintf("--cpu=%d", l.cpu/time.Second), fmt.Sprintf("--as=%d", l.memory),
		"--fsize=0", "--core=0", "--nofile=64",
	}
}

// judge tells what the recording did to the tool, which is no error, from what
// the machine did to it.
func (l limits) judge(cmd *exec.Cmd, waited error, stderr string) (outcome, error) {
	out := outcome{ok: waited == nil, stderr: stderr}
	state := cmd.ProcessState
	if waited == nil {
		return out, nil
	}
	if state == nil {
		return outcome{}, fmt.Errorf("%w: %w", ErrTool, waited)
	}
	// The kernel ends a child by a count of ticks, which is rougher than what it
	// reports afterwards.
	out.spent = state.UserTime()+state.SystemTime() >= l.cpu*3/4
	status, isUnix := state.Sys().(syscall.WaitStatus)
	killed := isUnix && status.Signaled() && status.Signal() == syscall.SIGKILL
	// Statuses by which prlimit and the dynamic linker say that no tool ran.
	const cannotRun, cannotLoad = 126, 127
	if killed && !out.spent || state.ExitCode() == cannotRun || state.ExitCode() == cannotLoad {
		return outcome{}, fmt.Errorf("%w: %w", ErrTool, waited)
	}
	return out, nil
}

// beginning keeps the first 16 KiB written to it and swallows the rest.
type beginning struct{ text []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), 16<<10-len(b.text))]...)
	return len(p), nil
}

// demuxers are ffmpeg's names for our containers. Naming the one to use keeps
// ffmpeg from finding a playlist in the bytes and opening what it lists.
var demuxers = map[string]string{
	"wav": "wav", "mp3": "mp3", "ogg": "ogg", "flac": "flac", "mp4": "mov", "aac": "aac", "amr": "amr",
	"matroska": "matroska", "webm": "matroska", "aiff": "aiff", "au": "au",
	"gsm": "gsm", "mulaw": "mulaw", "alaw": "alaw", "g722": "g722", "g729": "g729", "sln": "s16le",
}

// input is the part of a command line that opens the source.
func (t Type) input() []string {
	demuxer := demuxers[t.Container]
	args := []string{"-protocol_whitelist", "http,tcp", "-format_whitelist", demuxer, "-f", demuxer}
	switch demuxer {
	case "mulaw", "alaw", "s16le":
		args = append(args, "-sample_rate", strconv.Itoa(t.Raw.SampleRate))
	}
	return append(args, "-i", sourceURL)
}

// A probe is what ffprobe reads in the headers.
type probe struct {
	Streams []struct {
		Type        string `json:"codec_type"`
		Codec       string `json:"codec_name"`
		Channels    int    `json:"channels"`
		SampleRate  int    `json:"sample_rate,string"`
		Disposition struct {
			AttachedPicture int `json:"attached_pic"`
		} `json:"disposition"`
	} `json:"streams"`
	Format struct {
		Duration float64 `json:"duration,string"`
	} `json:"format"`

	outcome   outcome
	estimated bool // the duration is ffprobe's guess, not the file's word
}

// maxProbe bounds ffprobe's report.
const maxProbe = 1 << 20

func (l limits) probe(ctx context.Context, input *loopback) (probe, error) {
	args := append([]string{
		"-v", "warning", "-hide_banner", "-of", "json",
		"-show_entries", "format=duration:stream=codec_type,codec_name,channels,sample_rate:stream_disposition=attached_pic",
	}, input.source.input()...)
	var report []byte
	out, err := l.run(ctx, "ffprobe", input.environment(), args, func(r io.Reader) (err error) {
		report, err = io.ReadAll(io.LimitReader(r, maxProbe))
		return err
	})
	if err != nil {
		return probe{}, err
	}
	p := probe{outcome: out, estimated: strings.Contains(out.stderr, "Estimating duration from bitrate")}
	if err := json.Unmarshal(report, &p); err != nil {
		// Only a file that kills ffprobe half-way leaves a torn report.
		p.outcome.ok = false
	}
	return p, nil
}

// decode runs ffmpeg on the source and hands what it writes to consume.
func (l limits) decode(ctx context.Context, input *loopback, output []string, consume func(io.Reader) error) (outcome, error) {
	args := append([]string{"-v", "error", "-hide_banner", "-nostdin", "-threads", "1", "-filter_threads", "1"}, input.source.input()...)
	args = append(args, "-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1",
		"-t", strconv.FormatInt(int64(l.audio/time.Second), 10))
	args = append(args, output...)
	return l.run(ctx, "ffmpeg", input.environment(), append(args, "pipe:1"), consume)
}
