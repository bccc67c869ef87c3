package api

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"earmark/internal/access"
)

// python sends a file as most programs do: all of it, and then it looks for an
// answer. It uses requests where that is installed.
const python = `
import sys
from urllib.parse import urlsplit
method, url, key, kind, path = sys.argv[1:]
headers = {"Authorization": "Bearer " + key, "Content-Type": kind}
with open(path, "rb") as f:
    try:
        import requests
    except ImportError:
        import http.client
        at = urlsplit(url)
        c = http.client.HTTPConnection(at.netloc, timeout=60)
        c.request(method, at.path, body=f, headers=headers)
        r = c.getresponse()
        print(r.status, r.read().decode())
    else:
        r = requests.request(method, url, data=f, headers=headers, timeout=60)
        print(r.status_code, r.text)
`

// What is refused before it was read is refused in words: a client that sends
// 50 MB sees the problem, not a broken pipe.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	const size = 50 << 20
	content := bytes.Repeat([]byte("not audio "), size/10)
	file := h.file("big.wav", content)
	recording := "/v1/interactions/" + h.call().ID.String() + "/recordings/audio"
	before := h.kept()
	h.keys["nobody"] = "ek_" + marker
	for _, c := range []struct {
		name, method, path, kind string
		role                     access.Role
		status                   int
		code                     string
	}{
		{"a key that is none", http.MethodPut, recording, "audio/wav", "nobody", 401, "unauthenticated"},
		{"a role that may not", http.MethodPut, recording, "audio/wav", access.Reviewer, 403, "forbidden"},
		{"an id of nothing", http.MethodPut, "/v1/interactions/" + uuid.NewString() + "/recordings/audio", "audio/wav", access.Uploader, 404, "not_found"},
		{"no such path", http.MethodPost, "/v1/recordings", "audio/wav", access.Uploader, 404, "not_found"},
		{"another method", http.MethodPost, recording, "audio/wav", access.Uploader, 405, "method_not_allowed"},
		{"another type", http.MethodPost, "/v1/interactions", "audio/wav", access.Uploader, 415, "unsupported_media_type"},
		{"not audio", http.MethodPut, recording, "audio/wav", access.Uploader, 415, "not_audio"},
		{"too much JSON", http.MethodPost, "/v1/interactions", "application/json", access.Uploader, 413, "too_large"},
		{"too much JSON for a typed route", http.MethodPost, "/v1/purges", "application/json", access.RecordsOfficer, 413, "too_large"},
		{"a role that may not, on a typed route", http.MethodPost, "/v1/purges", "application/json", access.Agent, 403, "forbidden"},
	} {
		check := func(client, status, body string) {
			if status != strconv.Itoa(c.status) || !strings.Contains(body, `"code":"`+c.code+`"`) {
				t.Errorf("%s by %s: %s %s", c.name, client, status, body)
			}
		}
		for client, more := range map[string][]string{
			"curl":                   {"-H", "Expect:"},
			"curl, which asks first": {"-H", "Expect: 100-continue"},
			"curl, in chunks":        {"-H", "Expect:", "-H", "Transfer-Encoding: chunked"},
		} {
			args := append([]string{"-X", c.method, "-H", "Content-Type: " + c.kind, "--data-binary", "@" + file}, more...)
			status, body := h.curl(c.role, append(args, h.url+c.path)...)
			check(client, status, string(body))
		}
		for client, body := range map[string]io.Reader{"Go": bytes.NewReader(content), "Go, in chunks": io.MultiReader(bytes.NewReader(content))} {
			a := h.do(h.request(c.role, c.method, c.path, body, "Content-Type", c.kind))
			check(client, strconv.Itoa(a.StatusCode), string(a.body))
		}
		command := exec.CommandContext(t.Context(), "python3", "-c", python, c.method, h.url+c.path, h.keys[c.role], c.kind, file)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%s by python: %v: %s", c.name, err, out)
		}
		status, body, _ := strings.Cut(string(out), " ")
		check("python", status, body)
	}
	h.idle()
	if after := h.kept(); after["in the store"] != before["in the store"] || after["recordings"] != before["recordings"] {
		t.Errorf("kept %v, before %v", after, before)
	}
}
