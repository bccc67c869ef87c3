package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// curl runs the real one and returns status and body.
func (h *house) curl(role access.Role, args ...string) (status string, body []byte) {
	h.Helper()
	out := filepath.Join(h.TempDir(), "answer")
	args = append([]string{"-sS", "-m", "120", "-o", out, "-w", "%{http_code}", "-H", "Authorization: Bearer " + h.keys[role]}, args...)
	command := exec.CommandContext(h.Context(), "curl", args...)
	var said bytes.Buffer
	command.Stderr = &said
	code, err := command.Output()
	if err != nil {
		h.Fatalf("curl %v: %v: %s", args[9:], err, said.String())
	}
	body, err = os.ReadFile(out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.Fatal(err)
	}
	return string(code), body
}

func (h *house) file(name string, content []byte) string {
	h.Helper()
	path := filepath.Join(h.TempDir(), name)
	h.must(os.WriteFile(path, content, 0o600))
	return path
}

func onEachStore(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	for name, s3 := range map[string]bool{"disk": false, "s3": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, setting{s3: s3}))
		})
	}
}

func TestByPlainCurl(t *testing.T) { // invariants 4 and 7
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		multi, raw := noise(200_000), noise(150_000)
		status, body := h.curl(access.Uploader, "-F", "metadata="+metadata()+";type=application/json",
			"-F", "audio=@"+h.file("in-3201-0912-20260304.wav", multi)+";type=audio/wav", h.url+"/v1/interactions")
		var i archive.Interaction
		if h.must(json.Unmarshal(body, &i)); status != "201" || len(i.Recordings) != 1 || i.State != archive.Active || i.Receipt == nil {
			t.Fatalf("multipart: %s %s", status, body)
		}
		if r := i.Recordings[0]; r.SHA256 != sumOf(multi) || r.Bytes != int64(len(multi)) || r.FileName != "in-3201-0912-20260304.wav" {
			t.Errorf("recording %+v", r)
		}
		j := h.call()
		status, body = h.curl(access.Uploader, "-T", h.file("call.wav", raw), "-H", "Content-Type: audio/wav",
			h.url+"/v1/interactions/"+j.ID.String()+"/recordings/audio")
		var r archive.Recording
		if h.must(json.Unmarshal(body, &r)); status != "201" || r.SHA256 != sumOf(raw) || r.Receipt == nil {
			t.Fatalf("raw: %s %s", status, body)
		}
		for id, sent := range map[uuid.UUID][]byte{i.ID: multi, j.ID: raw} {
			h.heardByCurl(id, sent)
			if h.holds(sent[5000:5024]) {
				t.Error("the store holds a run of the plaintext")
			}
		}
	})
}

func (h *house) heardByCurl(id uuid.UUID, sent []byte) {
	h.Helper()
	address := h.url + audioPath(id)
	status, got := h.curl(access.Reviewer, address)
	if status != "200" || sumOf(got) != sumOf(sent) {
		h.Errorf("heard: %s, %d bytes of %d, the same %v", status, len(got), len(sent), bytes.Equal(got, sent))
	}
	for _, r := range []struct {
		header   string
		from, to int
	}{
		{"0-0", 0, 1}, {"0-99", 0, 100}, {"65530-65545", 65530, 65546}, {"1000-131071", 1000, 131072},
		{fmt.Sprintf("%d-", len(sent)-7), len(sent) - 7, len(sent)}, {"-500", len(sent) - 500, len(sent)},
		{fmt.Sprintf("70000-%d", 10*len(sent)), 70000, len(sent)},
	} {
		status, got := h.curl(access.Reviewer, "-H", "Range: bytes="+r.header, address)
		if status != "206" || !bytes.Equal(got, sent[r.from:r.to]) {
			h.Errorf("bytes=%s: %s, %d bytes, not %d", r.header, status, len(got), r.to-r.from)
		}
	}
	withoutPurpose, _, _ := strings.Cut(address, "?")
	if status, body := h.curl(access.Reviewer, withoutPurpose); status != "403" || !strings.Contains(string(body), "purpose_required") {
		h.Errorf("without a purpose: %s %s", status, body)
	}
	if status, body := h.curl(access.Reviewer, withoutPurpose+"?purpose=legal"); status != "403" || !strings.Contains(string(body), "purpose_not_permitted") {
		h.Errorf("for another's purpose: %s %s", status, body)
	}
}

func TestConditionsAndRanges(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	sent := noise(100_000)
	i := into[archive.Interaction](h, h.upload(metadata(), sent), http.StatusCreated)
	whole := h.get(access.Reviewer, audioPath(i.ID))
	tag := whole.Header.Get("ETag")
	if whole.StatusCode != http.StatusOK || tag != `"`+sumOf(sent)+`"` || whole.Header.Get("Accept-Ranges") != "bytes" ||
		whole.Header.Get("Content-Type") != "audio/wav" || whole.ContentLength != int64(len(sent)) {
		t.Errorf("whole: %d %v", whole.StatusCode, whole.Header)
	}
	head := h.do(h.request(access.Reviewer, http.MethodHead, audioPath(i.ID), nil))
	if head.StatusCode != http.StatusOK || head.ContentLength != int64(len(sent)) || len(head.body) != 0 || head.Header.Get("ETag") != tag {
		t.Errorf("HEAD: %d, %d of %d bytes", head.StatusCode, len(head.body), head.ContentLength)
	}
	for _, c := range []struct {
		name   string
		header []string
		status int
		want   []byte
	}{
		{"known", []string{"If-None-Match", tag}, 304, nil},
		{"one of several known", []string{"If-None-Match", `"x", ` + tag}, 304, nil},
		{"another known", []string{"If-None-Match", `"x"`}, 200, sent},
		{"a range of what is known", []string{"Range", "bytes=10-19", "If-Range", tag}, 206, sent[10:20]},
		{"a range of another", []string{"Range", "bytes=10-19", "If-Range", `"x"`}, 200, sent},
		{"if it is it", []string{"If-Match", tag}, 200, sent},
		{"if it is another", []string{"If-Match", `"x"`}, 412, nil},
		{"beyond the end", []string{"Range", fmt.Sprintf("bytes=%d-", len(sent))}, 416, nil},
		{"another unit", []string{"Range", "seconds=1-2"}, 416, nil},
		{"more ranges than are read", []string{"Range", "bytes=0-0" + strings.Repeat(",2-2", 20)}, 200, sent},
	} {
		a := h.get(access.Reviewer, audioPath(i.ID), c.header...)
		if a.StatusCode != c.status || c.want != nil && !bytes.Equal(a.body, c.want) {
			t.Errorf("%s: %d with %d bytes", c.name, a.StatusCode, len(a.body))
		}
		if c.status == 416 && c.name == "beyond the end" && a.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(sent)) {
			t.Errorf("%s: %v", c.name, a.Header)
		}
	}
	several := h.get(access.Reviewer, audioPath(i.ID), "Range", "bytes=0-9,70000-70009,-5")
	_, params, err := mime.ParseMediaType(several.Header.Get("Content-Type"))
	h.must(err)
	parts := multipart.NewReader(bytes.NewReader(several.body), params["boundary"])
	for _, want := range [][]byte{sent[:10], sent[70000:70010], sent[len(sent)-5:]} {
		p, err := parts.NextPart()
		h.must(err)
		got, err := io.ReadAll(p)
		h.must(err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x, not %x", p.Header.Get("Content-Range"), got, want)
		}
	}
	if _, err := parts.NextPart(); several.StatusCode != http.StatusPartialContent || err != io.EOF {
		t.Errorf("several ranges: %d, then %v", several.StatusCode, err)
	}
}

// Damage is a problem, and after the first byte a connection that breaks: it
// never passes for audio.
func TestDamageIsHeardOf(t *testing.T) { // invariant 4
	t.Parallel()
	h := open(t, setting{})
	sent := noise(400_000)
	i := into[archive.Interaction](h, h.upload(metadata(), sent), http.StatusCreated)
	h.spoil(h.objectOf(i), 300)
	p := h.problem(h.get(access.Reviewer, audioPath(i.ID)), http.StatusInternalServerError, "corrupt")
	if p.Fix == "" {
		t.Error("nothing said on what to do")
	}
	h.problem(h.get(access.Reviewer, audioPath(i.ID), "Range", "bytes=0-9"), http.StatusInternalServerError, "corrupt")
	i = into[archive.Interaction](h, h.upload(metadata(), sent), http.StatusCreated)
	h.spoil(h.objectOf(i), 700_000)
	response, err := http.DefaultClient.Do(h.request(access.Reviewer, http.MethodGet, audioPath(i.ID), nil))
	h.must(err)
	got, err := io.ReadAll(response.Body)
	h.must(response.Body.Close())
	if err == nil || !bytes.HasPrefix(sent, got) {
		t.Errorf("%d bytes, then %v", len(got), err)
	}
	fine := h.get(access.Reviewer, audioPath(i.ID), "Range", "bytes=0-99")
	if fine.StatusCode != http.StatusPartialContent || !bytes.Equal(fine.body, sent[:100]) {
		t.Errorf("what is sound: %d", fine.StatusCode)
	}
}

func (h *house) objectOf(i archive.Interaction) (key string) {
	h.Helper()
	h.must(h.db.QueryRow(h.Context(), `select o.key from objects o join recordings r on r.id = o.recording_id where r.interaction_id = $1`, i.ID).Scan(&key))
	return key
}

// spoil changes a byte of a stored object, in the file that holds it.
func (h *house) spoil(key string, at int) {
	h.Helper()
	var spoilt int
	name := filepath.Base(key)
	h.must(filepath.WalkDir(h.disk, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !strings.Contains(path, name) {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil || len(content) <= at {
			return err
		}
		content[at] ^= 1
		spoilt++
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o600)
	}))
	if spoilt != 1 {
		h.Fatalf("%d files spoilt", spoilt)
	}
}

// atOnce sends the same many times at once, and counts the statuses.
func (h *house) atOnce(times int, request func() *http.Request) map[int]int {
	h.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	statuses := map[int]int{}
	start := make(chan struct{})
	for range times {
		r := request()
		group.Go(func() {
			<-start
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				h.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				h.Error(err)
			}
			if err := response.Body.Close(); err != nil {
				h.Error(err)
			}
			mu.Lock()
			statuses[response.StatusCode]++
			mu.Unlock()
		})
	}
	close(start)
	group.Wait()
	return statuses
}

func TestManyAtOnceAreOne(t *testing.T) { // invariant 3
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		sent, call := noise(50_000), metadata()
		multi := func() *http.Request {
			return h.request(access.Uploader, http.MethodPost, "/v1/interactions", strings.NewReader(form(call, sent)), "Content-Type", formType)
		}
		if diff := cmp.Diff(map[int]int{201: 1, 200: 31}, h.atOnce(32, multi)); diff != "" {
			t.Errorf("POST: statuses (-want +got):\n%s", diff)
		}
		text := metadata()
		bare := func() *http.Request {
			return h.request(access.Uploader, http.MethodPost, "/v1/interactions", strings.NewReader(text), "Content-Type", "application/json")
		}
		if diff := cmp.Diff(map[int]int{201: 1, 200: 31}, h.atOnce(32, bare)); diff != "" {
			t.Errorf("POST of JSON: statuses (-want +got):\n%s", diff)
		}
		i := h.call()
		put := func() *http.Request {
			return h.request(access.Uploader, http.MethodPut, "/v1/interactions/"+i.ID.String()+"/recordings/leg-a", bytes.NewReader(sent))
		}
		if diff := cmp.Diff(map[int]int{201: 1, 200: 31}, h.atOnce(32, put)); diff != "" {
			t.Errorf("PUT: statuses (-want +got):\n%s", diff)
		}
		if n := h.count(`select count(*) from interactions`); n != 3 {
			t.Errorf("%d interactions, not 3", n)
		}
		if n := h.kept()["in the store"]; n != 2 {
			t.Errorf("%d objects, not 2", n)
		}
		other := noise(50_000)
		h.problem(h.upload(call, other), http.StatusConflict, "conflict")
		h.problem(h.send(access.Uploader, http.MethodPost, "/v1/interactions", strings.Replace(text, "inbound", "outbound", 1)), http.StatusConflict, "conflict")
		h.problem(h.do(h.request(access.Uploader, http.MethodPut, "/v1/interactions/"+i.ID.String()+"/recordings/leg-a", bytes.NewReader(other))),
			http.StatusConflict, "conflict")
		if n := h.kept()["in the store"]; n != 2 {
			t.Errorf("%d objects after conflicts, not 2", n)
		}
	})
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// Every way in which clients frame the same recording ends in the same.
func TestWaysToSend(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	sent := noise(80_000)
	undici := func() string {
		return strings.ReplaceAll(strings.TrimSuffix(form(metadata(), sent), "\r\n"), boundary, "----formdata-undici-055237041387")
	}
	withDigest := part("metadata", "", metadata()) + "--" + boundary + "\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n" +
		"Content-Digest: " + digestOf(sent) + "\r\n\r\n" + string(sent) + "\r\n--" + boundary + "--\r\n"
	for _, c := range []struct {
		name string
		body io.Reader
		kind string
	}{
		{"of a known length", strings.NewReader(form(metadata(), sent)), formType},
		{"chunked", io.MultiReader(strings.NewReader(form(metadata(), sent))), formType},
		{"without the last line break, as undici did", strings.NewReader(undici()), "multipart/form-data; boundary=----formdata-undici-055237041387"},
		{"with the last line break, as undici does", strings.NewReader(undici() + "\r\n"), "multipart/form-data; boundary=----formdata-undici-055237041387"},
		{"with a digest", strings.NewReader(withDigest), formType},
		{"a boundary in quotation marks", strings.NewReader(form(metadata(), sent)), `multipart/form-data; boundary="` + boundary + `"`},
		{"after a preamble", strings.NewReader("This is a message in MIME.\r\n" + form(metadata(), sent)), formType},
	} {
		a := h.do(h.request(access.Uploader, http.MethodPost, "/v1/interactions", c.body, "Content-Type", c.kind))
		i := into[archive.Interaction](h, a, http.StatusCreated)
		if a.Header.Get("Location") != "/v1/interactions/"+i.ID.String() || i.Recordings[0].SHA256 != sumOf(sent) {
			t.Errorf("%s: %s", c.name, a.body)
		}
		if got := h.get(access.Reviewer, audioPath(i.ID)); !bytes.Equal(got.body, sent) {
			t.Errorf("%s: heard %d bytes of %d", c.name, len(got.body), len(sent))
		}
	}
	for name, body := range map[string]io.Reader{"of a known length": bytes.NewReader(sent), "chunked": io.MultiReader(bytes.NewReader(sent))} {
		path := "/v1/interactions/" + h.call().ID.String() + "/recordings/audio"
		r := into[archive.Recording](h, h.do(h.request(access.Uploader, http.MethodPut, path, body, "Content-Digest", digestOf(sent))), http.StatusCreated)
		if r.SHA256 != sumOf(sent) || r.Bytes != int64(len(sent)) {
			t.Errorf("raw, %s: %+v", name, r)
		}
	}
	if n := h.kept()["in the spool"]; n != 0 {
		t.Errorf("%d files are left in the spool", n)
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	const vietnamese = "cuộc gọi số 1.wav"
	for disposition, want := range map[string]string{
		`; filename="` + vietnamese + `"`:                                    vietnamese,
		`; filename*=UTF-8''cu%E1%BB%99c%20g%E1%BB%8Di%20s%E1%BB%91%201.wav`: vietnamese,
		`; filename="call.wav"; filename*=UTF-8''g%E1%BB%8Di.wav`:            "gọi.wav",
		`; filename="say \"hi\".wav"`:                                        `say "hi".wav`,
		`; filename="C:\\calls\\a.wav"`:                                      "a.wav",
		`; filename="../../etc/a.wav"`:                                       "a.wav",
		"; filename=\"cu\xf4c.wav\"":                                         "cu\ufffdc.wav",
		`; filename=""`:                                                      "",
		`; filename="exten-92252-253-20250110-103636-606.wav"`:               "exten-92252-253-20250110-103636-606.wav",
	} {
		sent := noise(500)
		body := part("metadata", "", metadata()) + part("audio", disposition, string(sent)) + "--" + boundary + "--\r\n"
		i := into[archive.Interaction](h, h.do(h.request(access.Uploader, http.MethodPost, "/v1/interactions", strings.NewReader(body), "Content-Type", formType)), http.StatusCreated)
		if got := i.Recordings[0].FileName; got != want {
			t.Errorf("multipart %s: %q, not %q", disposition, got, want)
		}
		path := "/v1/interactions/" + h.call().ID.String() + "/recordings/audio"
		put := h.request(access.Uploader, http.MethodPut, path, bytes.NewReader(sent), "Content-Disposition", "attachment"+disposition)
		if r := into[archive.Recording](h, h.do(put), http.StatusCreated); r.FileName != want {
			t.Errorf("raw %s: %q, not %q", disposition, r.FileName, want)
		}
	}
	path := "/v1/interactions/" + h.call().ID.String() + "/recordings/audio?file_name=cu%E1%BB%99c.gsm"
	gsm := bytes.Repeat(append([]byte{0xd2}, make([]byte, 32)...), 100)
	if r := into[archive.Recording](h, h.do(h.request(access.Uploader, http.MethodPut, path, bytes.NewReader(gsm))), http.StatusCreated); r.FileName != "cuộc.gsm" {
		t.Errorf("by the query: %+v", r)
	}
}
