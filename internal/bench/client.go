package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"time"
)

// client speaks to the service as anybody outside does, with one key.
type client struct {
	base string
	key  string
	http *http.Client
}

func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}}
}

type request struct {
	method, path string
	header       http.Header
	body         io.Reader
	size         int64
}

// send returns the response when its status is one of want. The caller closes it.
func (c client) send(ctx context.Context, q request, want ...int) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, q.body)
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	if q.body != nil {
		r.ContentLength = q.size
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	for _, status := range want {
		if response.StatusCode == status {
			return response, nil
		}
	}
	said, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	return nil, errors.Join(fmt.Errorf("%s %s: status %d: %s", q.method, q.path, response.StatusCode, said), err, response.Body.Close())
}

// ask sends v as JSON, or gets where it is nil, and reads the answer into out.
func (c client) ask(ctx context.Context, path string, v, out any) error {
	q := request{method: http.MethodGet, path: path}
	if v != nil {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		q = request{http.MethodPost, path, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body), int64(len(body))}
	}
	response, err := c.send(ctx, q, http.StatusOK, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return err
	}
	return readJSON(response, out)
}

func readJSON(response *http.Response, out any) error {
	data, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return json.Unmarshal(data, out)
}

// metadata describe a call that nobody made.
func metadata() map[string]any {
	began := time.Now().UTC().Add(-time.Hour)
	return map[string]any{
		"source": benchSource, "source_id": rand.Text(), "channel": "voice", "direction": "inbound",
		"started_at": began, "ended_at": began.Add(3 * time.Minute),
		"agent": map[string]string{"id": "3201"}, "queue": "support", "dnis": "19001234",
	}
}

const benchSource = "earmark-bench"

type taken struct {
	ID         string `json:"id"`
	Recordings []struct {
		SHA256 string `json:"sha256"`
	} `json:"recordings"`
}

// announce makes the interaction to which a recording is put.
func (c client) announce(ctx context.Context, r *recording) error {
	var t taken
	err := c.ask(ctx, "/v1/interactions", metadata(), &t)
	r.id = t.ID
	return err
}

var errOtherBytes = errors.New("what came back is not what was sent")

// put sends the recording as a raw body to its interaction.
func (c client) put(ctx context.Context, r *recording, body io.Reader) error {
	response, err := c.send(ctx, request{
		http.MethodPut, "/v1/interactions/" + r.id + "/recordings/audio",
		http.Header{"Content-Type": {"audio/wav"}}, body, r.size(),
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	var kept struct {
		SHA256 string `json:"sha256"`
	}
	if err := readJSON(response, &kept); err != nil {
		return err
	}
	if kept.SHA256 != r.sha256 {
		return fmt.Errorf("answer to %s: %w", r.id, errOtherBytes)
	}
	return nil
}

// post sends metadata and recording in one multipart request of known length.
func (c client) post(ctx context.Context, r *recording, body io.Reader) error {
	description, err := json.Marshal(metadata())
	if err != nil {
		return err
	}
	var framing bytes.Buffer
	form := multipart.NewWriter(&framing)
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="metadata"`}, "Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	if _, err := part.Write(description); err != nil {
		return err
	}
	_, err = form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="audio"; filename="call.wav"`}, "Content-Type": {"audio/wav"}})
	if err != nil {
		return err
	}
	head := bytes.Clone(framing.Bytes())
	framing.Reset()
	if err := form.Close(); err != nil {
		return err
	}
	size := int64(len(head)+framing.Len()) + r.size()
	response, err := c.send(ctx, request{
		http.MethodPost, "/v1/interactions", http.Header{"Content-Type": {form.FormDataContentType()}},
		io.MultiReader(bytes.NewReader(head), body, &framing), size,
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	var t taken
	if err := readJSON(response, &t); err != nil {
		return err
	}
	r.id = t.ID
	if len(t.Recordings) != 1 || t.Recordings[0].SHA256 != r.sha256 {
		return fmt.Errorf("answer to %s: %w", r.id, errOtherBytes)
	}
	return nil
}

func audioPath(r *recording) string {
	return "/v1/interactions/" + r.id + "/recordings/audio/audio?purpose=quality_assurance"
}

// readBack hears the whole recording and compares what came to what was sent.
func (c client) readBack(ctx context.Context, r *recording) error {
	response, err := c.send(ctx, request{method: http.MethodGet, path: audioPath(r)}, http.StatusOK)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read back %s: %w", r.id, err)
	}
	if hex.EncodeToString(hash.Sum(nil)) != r.sha256 {
		return fmt.Errorf("read back %s: %w", r.id, errOtherBytes)
	}
	return nil
}
