// Package demo shows the whole life of a recording on a service of its own: a
// softphone, a reviewer and a records officer act over the public HTTP API, and
// each step prints what it did and what came of it.
package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options are where the demonstration runs.
type Options struct {
	// Program is the earmark program, which starts the service and makes keys.
	Program string
	// Data is the directory of the service it starts; what was there goes.
	Data string
	// Addr is where that service listens.
	Addr string
	// Out is where the transcript goes.
	Out io.Writer
}

// Run plays the demonstration to its end, and returns the first thing that was
// not as it should be. The service it started ends with it; its data stay.
func Run(ctx context.Context, o Options) error {
	d := &demo{Options: o, keys: map[string]client{}, began: time.Now()}
	scratch, err := os.MkdirTemp("", "earmark-demo-")
	if err != nil {
		return err
	}
	d.scratch = scratch
	return errors.Join(d.run(ctx), os.RemoveAll(scratch))
}

type demo struct {
	Options
	scratch string
	keys    map[string]client
	began   time.Time
	steps   int

	recorded []recorded
	// reviewed is the interaction that was scored and released, held is one
	// under a legal hold, purge the finished purge.
	held        string
	certificate string
}

// recorded is a call that was sent, as the demonstration knows it.
type recorded struct {
	call
	id     string
	audio  []byte
	sha256 string
}

func (d *demo) run(ctx context.Context) (err error) {
	stop, err := d.startService(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Keys for a softphone, a reviewer, a supervisor and the officers", d.makeKeys},
		{"Two-party calls in Vietnamese, in the formats that PBXs write", d.recordCalls},
		{"The softphone uploads them", d.upload},
		{"What must not be taken in is refused, and what is known is kept once", d.refuse},
		{"The service looks into what it took in", d.analyse},
		{"Finding them again", d.search},
		{"Hearing one, for a purpose", d.play},
		{"A sample is drawn that anybody can draw again", d.draw},
		{"A reviewer scores it, a supervisor releases it", d.evaluate},
		{"A legal hold", d.hold},
		{"A purge: preview, second person, proof", d.purge},
		{"The certificate, verified offline and tampered with", d.verify},
		{"A customer asks to be forgotten", d.erase},
		{"Everything recomputed from what is stored", d.verifyAll},
	} {
		d.steps++
		fmt.Fprintf(d.Out, "\n%2d. %s\n", d.steps, step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("step %d, %s: %w", d.steps, step.title, err)
		}
	}
	fmt.Fprintf(d.Out, "\nAll %d steps as they should be, in %s.\n", d.steps, time.Since(d.began).Round(time.Second))
	fmt.Fprintf(d.Out, `
To look at it in the console:
  EARMARK_DATA=%s %s up
then open http://127.0.0.1:8080 and sign in as `+"`supervisor`, `records` or `admin`"+`; their one-time
passwords come from:
  EARMARK_DATA=%s %s user reset supervisor
`, d.Data, d.Program, d.Data, d.Program)
	return nil
}

// say prints one result of a step.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, "    ✓ "+format+"\n", args...)
}

// earmark runs the program itself on the demonstration's data.
func (d *demo) earmark(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.Program, args...)
	cmd.Env = d.environment()
	output, err := cmd.CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("earmark %s: %w: %s", strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output)), nil
}

// environment leaves out what would lead to another installation.
func (d *demo) environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "EARMARK_") {
			kept = append(kept, v)
		}
	}
	return append(kept, "EARMARK_DATA="+d.Data, "EARMARK_ADDR="+d.Addr)
}

func (d *demo) makeKeys(ctx context.Context) error {
	for _, k := range []struct {
		name string
		args []string
	}{
		{"uploader", []string{"--role", "uploader", "--source", "demo-pbx", "--basis", "consent", "--method", "announcement"}},
		{"reviewer", []string{"--role", "reviewer"}},
		{"supervisor", []string{"--role", "supervisor"}},
		{"records", []string{"--role", "records_officer"}},
		{"records2", []string{"--role", "records_officer"}},
		{"privacy", []string{"--role", "privacy_officer"}},
		{"auditor", []string{"--role", "auditor"}},
	} {
		secret, err := d.earmark(ctx, append([]string{"key", "create", "--name", k.name}, k.args...)...)
		if err != nil {
			return err
		}
		d.keys[k.name] = client{base: "http://" + d.Addr, key: secret}
	}
	d.say("7 API keys; the softphone's carries the basis of the announcement that every caller hears")
	for _, u := range [][2]string{{"supervisor", "supervisor"}, {"reviewer", "reviewer"}, {"records", "records_officer"}} {
		if _, err := d.earmark(ctx, "user", "create", u[0], "--role", u[1]); err != nil {
			return err
		}
	}
	d.say("3 people for the console")
	return nil
}

func (d *demo) recordCalls(ctx context.Context) error {
	for _, c := range calls(time.Now()) {
		audio, err := c.record(ctx, d.scratch)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(audio)
		d.recorded = append(d.recorded, recorded{call: c, audio: audio, sha256: hex.EncodeToString(sum[:])})
		d.say("%-5s %6d bytes  %s", c.format, len(audio), c.fileName)
	}
	return nil
}

// taken is what the demonstration reads of an interaction.
type taken struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	Recordings []struct {
		State      string `json:"state"`
		SHA256     string `json:"sha256"`
		Codec      string `json:"codec"`
		Channels   int    `json:"channels"`
		DurationMS int64  `json:"duration_ms"`
	} `json:"recordings"`
}

func (d *demo) upload(ctx context.Context) error {
	phone := d.keys["uploader"]
	for i := range d.recorded {
		r := &d.recorded[i]
		way := "one request"
		send := func() (answer, error) {
			return phone.upload(ctx, r.metadata("demo-pbx"), r.fileName, r.mediaType, r.audio)
		}
		if i%2 == 1 {
			way, send = "metadata, then the raw audio", func() (answer, error) { return d.uploadRaw(ctx, r) }
		}
		a, err := send()
		if err != nil {
			return err
		}
		if err := a.expect(201); err != nil {
			return err
		}
		var t taken
		if err := json.Unmarshal(a.body, &t); err != nil {
			return err
		}
		if r.id == "" {
			r.id = t.ID
		}
		d.say("201 %s (%s)", r.id, way)
	}
	var note taken
	err := phone.ask(ctx, "/v1/interactions", map[string]any{
		"source": "demo-pbx", "source_id": "chat-1", "channel": "chat", "direction": "inbound",
		"started_at": d.recorded[0].started.Add(time.Hour).Format(time.RFC3339),
		"agent":      map[string]string{"id": "3201"}, "customer": map[string]string{"phone": "0901234567"},
		"messages": []map[string]string{
			{"from": "customer", "text": "Em gửi lại giúp anh hóa đơn tháng mười nhé"},
			{"from": "agent", "text": "Dạ, em đã gửi vào thư điện tử của anh rồi ạ"},
		},
	}, &note)
	if err != nil {
		return err
	}
	d.say("201 %s (a chat, %s)", note.ID, note.State)
	return nil
}

func (d *demo) uploadRaw(ctx context.Context, r *recorded) (answer, error) {
	phone := d.keys["uploader"]
	var t taken
	if err := phone.ask(ctx, "/v1/interactions", r.metadata("demo-pbx"), &t); err != nil {
		return answer{}, err
	}
	r.id = t.ID
	return phone.send(ctx, "PUT", "/v1/interactions/"+t.ID+"/recordings/audio?file_name="+r.fileName,
		map[string][]string{"Content-Type": {r.mediaType}}, strings.NewReader(string(r.audio)))
}

func (d *demo) refuse(ctx context.Context) error {
	phone, r := d.keys["uploader"], d.recorded[0]
	again, err := phone.upload(ctx, r.metadata("demo-pbx"), r.fileName, r.mediaType, r.audio)
	if err := errors.Join(err, again.expect(200)); err != nil {
		return err
	}
	d.say("200 the same call again: the same interaction")
	other, err := phone.upload(ctx, r.metadata("demo-pbx"), r.fileName, r.mediaType, d.recorded[3].audio)
	if err := errors.Join(err, other.refused(409, "conflict")); err != nil {
		return err
	}
	d.say("409 conflict: other audio under the same id, nothing overwritten")
	metadata := r.metadata("demo-pbx")
	metadata["source_id"] = "broken-1"
	broken, err := phone.upload(ctx, metadata, "broken.wav", "audio/wav", []byte("PK\x03\x04 this is no recording at all, whatever its name says"))
	if err := errors.Join(err, broken.refused(415, "not_audio")); err != nil {
		return err
	}
	d.say("415 not_audio: a broken file, nothing stored")
	metadata["consent"] = map[string]string{"basis": "consent", "status": "refused"}
	unwanted, err := phone.upload(ctx, metadata, r.fileName, r.mediaType, r.audio)
	if err := errors.Join(err, unwanted.refused(403, "consent_refused")); err != nil {
		return err
	}
	d.say("403 consent_refused: the caller said no, nothing stored")
	return nil
}

func (d *demo) analyse(ctx context.Context) error {
	reviewer := d.keys["reviewer"]
	for _, r := range d.recorded {
		var t taken
		err := until(ctx, "the analysis of "+r.fileName, func() (bool, error) {
			err := reviewer.ask(ctx, "/v1/interactions/"+r.id, nil, &t)
			return err == nil && len(t.Recordings) == 1 && t.Recordings[0].State == "ready", err
		})
		if err != nil {
			return err
		}
		found := t.Recordings[0]
		d.say("%-10s %d channel(s), %4.1f s", found.Codec, found.Channels, float64(found.DurationMS)/1000)
	}
	return nil
}

func (d *demo) search(ctx context.Context) error {
	reviewer := d.keys["reviewer"]
	for _, s := range []struct {
		query string
		about string
		want  int
	}{
		{"customer=0901234567", "by the customer's number, whichever way it was written", 3},
		{"q=hoa+don", "by words, without their marks (hóa đơn)", 1},
		{"agent=3201&channel=voice", "by agent and channel", 3},
		{"queue=support", "by queue", 2},
	} {
		var page struct {
			Items []taken `json:"items"`
		}
		if err := reviewer.ask(ctx, "/v1/interactions?"+s.query, nil, &page); err != nil {
			return err
		}
		if len(page.Items) != s.want {
			return fmt.Errorf("%s: expected %d, found %d", s.query, s.want, len(page.Items))
		}
		d.say("%d found %s", len(page.Items), s.about)
	}
	return nil
}

func (d *demo) play(ctx context.Context) error {
	reviewer, r := d.keys["reviewer"], d.recorded[0]
	path := "/v1/interactions/" + r.id + "/recordings/audio/audio"
	silent, err := reviewer.get(ctx, path)
	if err := errors.Join(err, silent.refused(403, "purpose_required")); err != nil {
		return err
	}
	d.say("403 purpose_required: nobody listens without saying why")
	wrong, err := reviewer.get(ctx, path+"?purpose=legal")
	if err := errors.Join(err, wrong.refused(403, "purpose_not_permitted")); err != nil {
		return err
	}
	d.say("403 purpose_not_permitted: a reviewer has no legal purpose")
	path += "?purpose=quality_assurance"
	whole, err := reviewer.get(ctx, path)
	if err := errors.Join(err, whole.expect(200)); err != nil {
		return err
	}
	if sum := sha256.Sum256(whole.body); hex.EncodeToString(sum[:]) != r.sha256 {
		return errors.New("what came back is not what was sent")
	}
	d.say("200 all of it: the same SHA-256 as was sent")
	const from, to = 70_000, 70_999
	part, err := reviewer.send(ctx, "GET", path, map[string][]string{"Range": {fmt.Sprintf("bytes=%d-%d", from, to)}}, nil)
	if err := errors.Join(err, part.expect(206)); err != nil {
		return err
	}
	if string(part.body) != string(r.audio[from:to+1]) {
		return errors.New("the range is not what was asked for")
	}
	d.say("206 a range: exactly its %d bytes", len(part.body))
	return nil
}

// startService starts the program on fresh data and waits until it answers.
func (d *demo) startService(ctx context.Context) (stop func() error, err error) {
	if err := os.RemoveAll(d.Data); err != nil {
		return nil, fmt.Errorf("clear the demonstration's data: %w", err)
	}
	log, err := os.Create(filepath.Join(d.scratch, "service.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(d.Program, "up") //nolint:noctx // it is stopped by a signal, in order
	cmd.Env = d.environment()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the service: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return errors.Join(<-ended, log.Close())
	}
	fmt.Fprintf(d.Out, "Starting a service of its own on http://%s, its data in %s …\n", d.Addr, d.Data)
	err = until(ctx, "the service", func() (bool, error) {
		select {
		case err := <-ended:
			ended <- err
			text, readErr := os.ReadFile(log.Name())
			return false, errors.Join(fmt.Errorf("the service ended: %w\n%s", err, text), readErr)
		default:
		}
		a, err := client{base: "http://" + d.Addr}.get(ctx, "/readyz")
		return err == nil && a.status == 200, nil
	})
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	d.say("up after %s", time.Since(d.began).Round(100*time.Millisecond))
	return stop, nil
}
