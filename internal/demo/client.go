package demo

import (
	"bytes"
	"context"
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
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the answer's stable code, when it is a problem document.
func (a answer) problem() string {
	var p struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		return ""
	}
	return p.Code
}

// expect is an error unless the answer has the status.
func (a answer) expect(status int) error {
	if a.status != status {
		return fmt.Errorf("expected status %d, got %d: %s", status, a.status, bytes.TrimSpace(a.body))
	}
	return nil
}

// refused is an error unless the answer is that problem.
func (a answer) refused(status int, code string) error {
	if err := a.expect(status); err != nil {
		return err
	}
	if got := a.problem(); got != code {
		return fmt.Errorf("expected the problem %s, got %q", code, got)
	}
	return nil
}

func (c client) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	data, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	return answer{response.StatusCode, response.Header, data}, nil
}

func (c client) get(ctx context.Context, path string) (answer, error) {
	return c.send(ctx, http.MethodGet, path, nil, nil)
}

func (c client) post(ctx context.Context, path string, v any) (answer, error) {
	return c.sendJSON(ctx, http.MethodPost, path, v)
}

func (c client) sendJSON(ctx context.Context, method, path string, v any) (answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return answer{}, err
	}
	return c.send(ctx, method, path, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body))
}

// ask posts v, or gets where v is nil, and reads the answer into out.
func (c client) ask(ctx context.Context, path string, v, out any) error {
	a, err := c.get(ctx, path)
	if v != nil {
		a, err = c.post(ctx, path, v)
	}
	if err != nil {
		return err
	}
	if a.status >= http.StatusMultipleChoices {
		return fmt.Errorf("%s: status %d: %s", path, a.status, bytes.TrimSpace(a.body))
	}
	return json.Unmarshal(a.body, out)
}

// upload sends metadata and audio in one request, as a softphone does.
func (c client) upload(ctx context.Context, metadata any, fileName, mediaType string, audio []byte) (answer, error) {
	description, err := json.Marshal(metadata)
	if err != nil {
		return answer{}, err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	err = errors.Join(
		addPart(form, `form-data; name="metadata"`, "application/json", description),
		addPart(form, fmt.Sprintf(`form-data; name="audio"; filename=%q`, fileName), mediaType, audio),
		form.Close(),
	)
	if err != nil {
		return answer{}, err
	}
	return c.send(ctx, http.MethodPost, "/v1/interactions", http.Header{"Content-Type": {form.FormDataContentType()}}, &body)
}

func addPart(form *multipart.Writer, disposition, mediaType string, content []byte) error {
	part, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}, "Content-Type": {mediaType}})
	if err != nil {
		return err
	}
	_, err = part.Write(content)
	return err
}

const (
	patience = 2 * time.Minute
	pace     = 150 * time.Millisecond
)

// until asks again and again until done says so.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited too long for %s", what)
		case <-time.After(pace):
		}
	}
}
