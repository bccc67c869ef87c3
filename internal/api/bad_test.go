package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// bad is a request that is refused, and how.
type bad struct {
	name     string
	status   int
	code     string
	location string // of one of the wrong fields; empty: of none
	method   string // POST when empty
	path     string // /v1/interactions when empty; {id} is that of a call
	kind     string // the content type; application/json when empty
	body     string
	header   []string
	role     access.Role // uploader when empty
}

// set is metadata with one field set to a JSON value.
func set(name, value string) string { return metadata(name, value) }

var q = fmt.Sprintf("%q", marker) // a marker as JSON

func badMetadata() []bad {
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	return []bad{
		{name: "no body", status: 422, code: "invalid", location: "body", body: ""},
		{name: "not JSON", status: 422, code: "invalid", location: "body", body: marker},
		{name: "half of it", status: 422, code: "invalid", location: "body", body: metadata()[:50]},
		{name: "an array", status: 422, code: "invalid", location: "body", body: `[` + metadata() + `]`},
		{name: "a string", status: 422, code: "invalid", location: "body", body: q},
		{name: "null", status: 422, code: "invalid", location: "body.source", body: "null"},
		{name: "two objects", status: 422, code: "invalid", location: "body", body: metadata() + metadata()},
		{name: "nothing in it", status: 422, code: "invalid", location: "body.source_id", body: "{}"},
		{name: "invalid UTF-8", status: 422, code: "invalid", location: "body", body: set("queue", `"`+marker+"\xff"+`"`)},
		{name: "a NUL character", status: 422, code: "invalid", location: "body.queue", body: set("queue", `"`+marker+`\u0000"`)},
		{name: "a NUL in an attribute", status: 422, code: "invalid", location: "body.attributes", body: set("attributes", `{"a":"\u0000`+marker+`"}`)},
		{name: "an unknown field", status: 422, code: "invalid", location: "body.colour", body: set("colour", q)},
		{name: "a field whose name is data", status: 422, code: "invalid", location: "body", body: set(marker+" "+customerPhone, `1`)},
		{name: "an unknown field within", status: 422, code: "invalid", location: "body.nick", body: set("agent", `{"nick":`+q+`}`)},
		{name: "a field twice", status: 422, code: "invalid", location: "body.queue", body: strings.Replace(metadata(), "{", `{"queue":`+q+`,"queue":"other",`, 1)},
		{name: "a field twice within", status: 422, code: "invalid", location: "body.agent.id", body: set("agent", `{"id":`+q+`,"id":"other"}`)},
		{name: "a field twice in other letters", status: 422, code: "invalid", location: "body", body: set("QUEUE", q)},
		{name: "a number for a string", status: 422, code: "invalid", location: "body.queue", body: set("queue", markerNumber)},
		{name: "a number for a phone", status: 422, code: "invalid", location: "body.customer.phone", body: set("customer", `{"phone":`+markerNumber+`}`)},
		{name: "a string for an object", status: 422, code: "invalid", location: "body.agent", body: set("agent", q)},
		{name: "an object for a list", status: 422, code: "invalid", location: "body.tags", body: set("tags", `{"a":`+q+`}`)},
		{name: "a fraction for a count", status: 422, code: "invalid", location: "body.hold_count", body: set("hold_count", markerNumber+".5")},
		{name: "a number beyond all", status: 422, code: "invalid", location: "body.hold_count", body: set("hold_count", markerNumber+"00000000000000000")},
		{name: "a negative count", status: 422, code: "invalid", location: "body.hold_count", body: set("hold_count", "-1")},
		{name: "negative seconds", status: 422, code: "invalid", location: "body.hold_seconds", body: set("hold_seconds", "-"+markerNumber)},
		{name: "a date that is none", status: 422, code: "invalid", location: "body.started_at", body: set("started_at", `"`+marker+`"`)},
		{name: "a date without a zone", status: 422, code: "invalid", location: "body.started_at", body: set("started_at", `"2026-03-04T05:06:07"`)},
		{name: "a date to come", status: 422, code: "invalid", location: "body.started_at", body: set("started_at", `"2999-03-04T05:06:07Z"`)},
		{name: "a date long ago", status: 422, code: "invalid", location: "body.started_at", body: set("started_at", `"1066-10-14T09:00:00Z"`)},
		{name: "no date", status: 422, code: "invalid", location: "body.started_at", body: metadata("started_at", "")},
		{name: "an end before the start", status: 422, code: "invalid", location: "body.ended_at", body: set("ended_at", `"2026-03-04T05:06:06Z"`)},
		{name: "an end that is none", status: 422, code: "invalid", location: "body.ended_at", body: set("ended_at", markerNumber)},
		{name: "an unknown channel", status: 422, code: "invalid", location: "body.channel", body: set("channel", q)},
		{name: "no channel", status: 422, code: "invalid", location: "body.channel", body: metadata("channel", "")},
		{name: "an unknown direction", status: 422, code: "invalid", location: "body.direction", body: set("direction", q)},
		{name: "an unknown role", status: 422, code: "invalid", location: "body.participants[0].role", body: set("participants", `[{"role":`+q+`}]`)},
		{name: "an unknown basis", status: 422, code: "invalid", location: "body.consent.basis", body: set("consent", `{"basis":`+q+`}`)},
		{name: "an unknown status", status: 422, code: "invalid", location: "body.consent.status", body: set("consent", `{"basis":"consent","status":`+q+`}`)},
		{name: "an unknown purpose", status: 422, code: "invalid", location: "body.consent.purposes", body: set("consent", `{"status":"granted","purposes":[`+q+`]}`)},
		{name: "consent from the future", status: 422, code: "invalid", location: "body.consent.at", body: set("consent", `{"status":"granted","at":"2999-01-01T00:00:00Z"}`)},
		{name: "refused", status: 403, code: "consent_refused", body: set("consent", `{"status":"refused"}`)},
		{name: "an empty tag", status: 422, code: "invalid", location: "body.tags[1]", body: set("tags", `["a",""]`)},
		{name: "65 tags", status: 422, code: "invalid", location: "body.tags", body: set("tags", "["+strings.Repeat(`"`+marker+`",`, 64)+`"b"]`)},
		{name: "a long line", status: 422, code: "invalid", location: "body.queue", body: set("queue", `"`+strings.Repeat(marker, 64)+`"`)},
		{name: "attributes that are a list", status: 422, code: "invalid", location: "body.attributes", body: set("attributes", `[`+q+`]`)},
		{name: "an id that only looks like one", status: 422, code: "invalid", location: "body.source_id", body: set("source_id", `"  "`)},
		{name: "10,000 levels", status: 422, code: "invalid", location: "body", body: set("attributes", deep)},
		{name: "10,000 levels of nothing else", status: 422, code: "invalid", location: "body", body: deep},
		{name: "over 1 MiB", status: 413, code: "too_large", body: set("transcript", `"`+strings.Repeat(marker, 1<<18)+`"`)},
		{name: "another content type", status: 415, code: "unsupported_media_type", kind: "text/" + strings.ToLower(marker), body: metadata()},
		{name: "a content type that is none", status: 415, code: "unsupported_media_type", kind: marker + ";;=" + marker, body: metadata()},
		{name: "a form of the other kind", status: 415, code: "unsupported_media_type", kind: "application/x-www-form-urlencoded", body: "metadata=" + marker},
		{name: "an unknown query parameter", status: 422, code: "invalid", location: "query.purpos", path: "/v1/interactions?purpos=" + marker, body: metadata()},
		{name: "by somebody who may not", status: 403, code: "forbidden", role: access.Reviewer, body: metadata()},
	}
}

func badForms() []bad {
	audio := string(noise(200))
	end := "--" + boundary + "--\r\n"
	meta, sound := part("metadata", "", metadata()), part("audio", `; filename="`+marker+`.wav"`, audio)
	withDigest := func(digest string) string {
		return part("metadata", "", metadata()) + "--" + boundary + "\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n" +
			"Content-Digest: " + digest + "\r\n\r\n" + audio + "\r\n" + end
	}
	of := func(name string, status int, code, location, body string) bad {
		return bad{name: "form: " + name, status: status, code: code, location: location, kind: formType, body: body}
	}
	return []bad{
		of("no body", 422, "invalid", "body.metadata", ""),
		of("no parts", 422, "invalid", "body.metadata", end),
		of("the parts the other way round", 422, "invalid", "body.metadata", sound+meta+end),
		of("no metadata", 422, "invalid", "body.metadata", sound+end),
		of("no audio", 422, "invalid", "body.audio", meta+end),
		of("a part of another name", 422, "invalid", "body.audio", meta+part(marker, "", audio)+end),
		of("a part after the audio", 400, "multipart_framing", "", meta+sound+part("more", "", marker)+end),
		of("no closing boundary", 400, "", "", meta+sound),
		of("no boundary after the audio", 400, "", "", meta+strings.TrimSuffix(sound, "\r\n")),
		of("an end within the metadata", 400, "truncated", "", meta[:len(meta)-40]),
		of("another boundary", 422, "invalid", "body.metadata", strings.ReplaceAll(meta+sound+end, boundary, "x"+boundary)),
		of("a line that belongs to nothing", 400, "multipart_framing", "", "--"+boundary+"\r\n"+marker+" "+customerPhone+"\r\n\r\n"),
		of("an epilogue", 400, "multipart_framing", "", meta+sound+end+"epilogue of "+marker),
		of("bad metadata", 422, "invalid", "body.channel", part("metadata", "", set("channel", q))+sound+end),
		of("metadata over 1 MiB", 413, "too_large", "", part("metadata", "", strings.Repeat(marker, 1<<19))+sound+end),
		of("an endless preamble", 413, "too_large", "", strings.Repeat(marker+"\r\n", 1<<18)+meta+sound+end),
		of("not audio", 415, "not_audio", "", meta+part("audio", `; filename="a.wav"`, "<html>"+marker+"</html>")+end),
		of("a program", 415, "not_audio", "", meta+part("audio", `; filename="a.wav"`, "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 100))+end),
		of("a digest of other bytes", 422, "digest_mismatch", "", withDigest(digestOf([]byte(marker)))),
		of("an unknown digest alone", 422, "invalid", "header.Content-Digest", withDigest("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:")),
		of("a digest that is none", 422, "invalid", "header.Content-Digest", withDigest("sha-256=:"+marker+":")),
		of("a digest that is too short", 422, "invalid", "header.Content-Digest", withDigest("sha-256=:AAAA:")),
		{name: "form: without a boundary", status: 422, code: "invalid", location: "header.Content-Type", kind: "multipart/form-data", body: meta + sound + end},
		{name: "form: of mixed kind", status: 415, code: "unsupported_media_type", kind: "multipart/mixed; boundary=" + boundary, body: meta + sound + end},
	}
}

func badRecordings() []bad {
	audio := string(noise(200))
	const path = "/v1/interactions/{id}/recordings/"
	put := func(name string, status int, code, location, path, body string, header ...string) bad {
		return bad{name: "put: " + name, status: status, code: code, location: location, method: http.MethodPut,
			path: path, kind: "audio/wav", body: body, header: header}
	}
	return []bad{
		put("not audio", 415, "not_audio", "", path+"audio", marker),
		put("a bad name", 422, "invalid", "path.name", path+marker, audio),
		put("a name of dots", 422, "invalid", "path.name", path+"%2E%2E", audio),
		put("a name with a slash", 422, "invalid", "path.name", path+"a%2Fb", audio),
		put("a long name", 422, "invalid", "path.name", path+strings.Repeat("a", 65), audio),
		put("an id that is none", 404, "not_found", "", "/v1/interactions/"+marker+"/recordings/audio", audio),
		put("an id of nothing", 404, "not_found", "", "/v1/interactions/"+uuid.NewString()+"/recordings/audio", audio),
		put("a digest of other bytes", 422, "digest_mismatch", "", path+"audio", audio, "Content-Digest", digestOf([]byte(marker))),
		put("an unknown digest alone", 422, "invalid", "header.Content-Digest", path+"audio", audio, "Content-Digest", "crc32c=:AAAAAA==:"),
		put("an unknown query parameter", 422, "invalid", "query.name", path+"audio?name="+marker, audio),
		put("a query parameter whose name is data", 422, "invalid", "query.*", path+"audio?"+marker+"=1", audio),
		put("a long file name", 422, "invalid", "file_name", path+"audio?file_name="+strings.Repeat(marker, 64), audio),
		{name: "put: by somebody who may not", status: 403, code: "forbidden", role: access.Agent, method: http.MethodPut, path: path + "audio", body: audio},
	}
}

func badQuestions() []bad {
	get := func(name string, status int, code, location, path string) bad {
		return bad{name: "get: " + name, status: status, code: code, location: location, method: http.MethodGet, path: path, role: access.Reviewer}
	}
	return []bad{
		get("a bad cursor", 422, "invalid", "query.cursor", "/v1/interactions?cursor="+marker),
		get("a limit of 0", 422, "invalid", "query.limit", "/v1/interactions?limit=0"),
		get("a limit of 501", 422, "invalid", "query.limit", "/v1/interactions?limit=501"),
		get("a limit that is none", 422, "invalid", "query.limit", "/v1/interactions?limit="+marker),
		get("an unknown query parameter", 422, "invalid", "query.phone", "/v1/interactions?phone="+customerPhone),
		get("an unknown channel", 422, "invalid", "query.channel", "/v1/interactions?channel="+marker),
		get("a date that is none", 422, "invalid", "query.from", "/v1/interactions?from="+marker),
		get("negative seconds", 422, "invalid", "query.min_duration", "/v1/interactions?min_duration=-1"),
		get("an id that is none", 422, "invalid", "path.id", "/v1/interactions/"+marker),
		get("an id of nothing", 404, "not_found", "", "/v1/interactions/"+uuid.NewString()),
		get("an unknown purpose", 403, "purpose_not_permitted", "", "/v1/interactions/{id}/recordings/audio/audio?purpose="+marker),
		get("no purpose", 403, "purpose_required", "", "/v1/interactions/{id}/recordings/audio/audio"),
		get("no such recording", 404, "not_found", "", "/v1/interactions/{id}/recordings/audio/audio?purpose=training"),
		get("no peaks", 404, "not_found", "", "/v1/interactions/{id}/recordings/audio/peaks"),
		get("no such path", 404, "not_found", "", "/v1/"+marker),
		get("no such path with an escape that is none", 404, "not_found", "", "/v1/a%2e%2e%2fb"),
		{name: "a method that is not allowed", status: 405, code: "method_not_allowed", method: http.MethodDelete, path: "/v1/interactions"},
		{name: "a method that is none", status: 405, code: "method_not_allowed", method: "BREW", path: "/v1/interactions"},
		{name: "a key that is none", status: 401, code: "unauthenticated", role: "", body: metadata(), header: []string{"Authorization", "Bearer ek_" + marker}},
		{name: "another scheme", status: 401, code: "unauthenticated", body: metadata(), header: []string{"Authorization", "Basic " + marker}},
		{name: "from another site", status: 403, code: "forbidden", body: metadata(), header: []string{"Sec-Fetch-Site", "cross-site"}},
		{name: "patch: an unknown field", status: 422, code: "invalid", location: "body.queue", method: http.MethodPatch, path: "/v1/interactions/{id}", role: access.Supervisor, body: `{"queue":` + q + `}`},
		{name: "patch: not JSON", status: 422, code: "invalid", location: "body", method: http.MethodPatch, path: "/v1/interactions/{id}", role: access.Supervisor, body: marker},
		{name: "typed: not JSON", status: 400, code: "bad_request", location: "body", path: "/v1/purges", role: access.RecordsOfficer, body: "{" + marker},
		{name: "typed: a number for a string", status: 422, code: "invalid", location: "body.reason", path: "/v1/purges", role: access.RecordsOfficer, body: `{"reason":` + markerNumber + `}`},
		{name: "typed: an id that is none", status: 422, code: "invalid", location: "body.interactions[0]", path: "/v1/purges", role: access.RecordsOfficer, body: `{"interactions":[` + q + `]}`},
		{name: "typed: an id of another kind", status: 422, code: "invalid", location: "body.interactions[0]", path: "/v1/purges", role: access.RecordsOfficer, body: `{"interactions":["urn:` + marker + `:` + uuid.NewString() + `"]}`},
		{name: "typed: an unknown field", status: 422, code: "invalid", location: "body.colour", path: "/v1/purges", role: access.RecordsOfficer, body: `{"colour":` + q + `}`},
		{name: "typed: a field whose name is data", status: 422, code: "invalid", location: "body.*", path: "/v1/purges", role: access.RecordsOfficer, body: `{` + q + `:1}`},
		{name: "typed: another content type", status: 415, code: "unsupported_media_type", location: "body", path: "/v1/purges", role: access.RecordsOfficer, kind: "text/" + marker, body: `{}`},
		{name: "typed: over 1 MiB", status: 413, code: "too_large", path: "/v1/purges", role: access.RecordsOfficer, body: `{"reason":"` + strings.Repeat(marker, 1<<19) + `"}`},
		{name: "typed: no body", status: 400, code: "bad_request", path: "/v1/purges", role: access.RecordsOfficer, body: ""},
	}
}

//nolint:tparallel // each looks at what is kept after it
func TestBadInput(t *testing.T) { // invariant 2
	t.Parallel()
	h := open(t, setting{})
	call := h.call()
	before := h.kept()
	for _, table := range [][]bad{badMetadata(), badForms(), badRecordings(), badQuestions()} {
		for _, b := range table {
			t.Run(b.name, func(t *testing.T) {
				h := &house{TB: t, API: h.API, db: h.db, store: h.store, spool: h.spool, url: h.url, keys: h.keys}
				h.refuses(b, call)
				if diff := cmp.Diff(before, h.kept()); diff != "" {
					t.Errorf("kept (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func (h *house) refuses(b bad, call archive.Interaction) {
	h.Helper()
	method, path, kind, role := b.method, b.path, b.kind, b.role
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/v1/interactions"
	}
	if kind == "" {
		kind = "application/json"
	}
	if role == "" {
		role = access.Uploader
	}
	path = strings.ReplaceAll(path, "{id}", call.ID.String())
	a := h.do(h.request(role, method, path, strings.NewReader(b.body), append([]string{"Content-Type", kind}, b.header...)...))
	code := b.code
	if code == "" {
		// A body whose end is missing can be told as the one or the other.
		code = codeOf(a)
	}
	p := h.problem(a, b.status, code)
	if code != "truncated" && code != "multipart_framing" && b.code == "" {
		h.Errorf("code %s", code)
	}
	var locations []string
	for _, field := range p.Errors {
		if field.Message == "" {
			h.Errorf("%s: nothing said", field.Location)
		}
		locations = append(locations, field.Location)
		if field.Location == b.location {
			return
		}
	}
	if b.location != "" || len(p.Errors) > 0 {
		h.Errorf("locations %v, not %q: %s", locations, b.location, a.body)
	}
}

// raw writes to the service's socket what no client library would.
type raw struct {
	net.Conn
	h *house
}

func (h *house) dial() *raw {
	h.Helper()
	conn, err := (&net.Dialer{}).DialContext(h.Context(), "tcp", strings.TrimPrefix(h.url, "http://"))
	h.must(err)
	h.must(conn.SetDeadline(time.Now().Add(time.Minute)))
	h.Cleanup(func() {
		if err := conn.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			h.Error(err)
		}
	})
	return &raw{conn, h}
}

func (r *raw) write(text string) {
	r.h.Helper()
	_, err := io.WriteString(r, text)
	r.h.must(err)
}

// head writes a request's head.
func (r *raw) head(method, path string, header ...string) {
	r.h.Helper()
	text := method + " " + path + " HTTP/1.1\r\nHost: earmark\r\nAuthorization: Bearer " + r.h.keys[access.Uploader] + "\r\n"
	for i := 0; i < len(header); i += 2 {
		text += header[i] + ": " + header[i+1] + "\r\n"
	}
	r.write(text + "\r\n")
}

func (r *raw) answer() answer {
	r.h.Helper()
	response, err := http.ReadResponse(bufio.NewReader(r), nil)
	r.h.must(err)
	body, err := io.ReadAll(response.Body)
	r.h.must(err)
	r.h.must(response.Body.Close())
	return answer{response, body}
}

func TestCutConnections(t *testing.T) { // invariant 2
	t.Parallel()
	h := open(t, setting{})
	put := "/v1/interactions/" + h.call().ID.String() + "/recordings/audio"
	before := h.kept()
	audio := noise(100_000)
	whole := form(metadata(), audio)
	length := fmt.Sprint(len(whole))
	for _, c := range []struct {
		name, method, path string
		header             []string
		body               string
	}{
		{"JSON", http.MethodPost, "/v1/interactions", []string{"Content-Type", "application/json", "Content-Length", "1000"}, metadata()[:100]},
		{"within the metadata", http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Content-Length", length}, whole[:200]},
		{"within the audio", http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Content-Length", length}, whole[:len(whole)/2]},
		{"a byte short", http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Content-Length", length}, whole[:len(whole)-1]},
		{"within a chunk", http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Transfer-Encoding", "chunked"}, fmt.Sprintf("%x\r\n%s", len(whole), whole[:len(whole)/2])},
		{"before the last chunk", http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Transfer-Encoding", "chunked"}, fmt.Sprintf("%x\r\n%s\r\n", len(whole), whole)},
		{"a raw body", http.MethodPut, put, []string{"Content-Length", fmt.Sprint(len(audio))}, string(audio[:len(audio)/2])},
		{"a raw body, a byte short", http.MethodPut, put, []string{"Content-Length", fmt.Sprint(len(audio))}, string(audio[:len(audio)-1])},
		{"a raw body in chunks", http.MethodPut, put, []string{"Transfer-Encoding", "chunked"}, fmt.Sprintf("%x\r\n%s\r\n", len(audio), audio)},
		{"a head alone", http.MethodPut, put, []string{"Content-Length", fmt.Sprint(len(audio))}, ""},
	} {
		began := h.began.Load()
		r := h.dial()
		r.head(c.method, c.path, c.header...)
		r.write(c.body)
		h.until("the request began", func() bool { return h.began.Load() > began })
		h.must(r.Close())
		h.idle()
		if diff := cmp.Diff(before, h.kept()); diff != "" {
			t.Errorf("%s: kept (-before +after):\n%s", c.name, diff)
		}
	}
	// A client that only ends its side is told.
	r := h.dial()
	r.head(http.MethodPut, put, "Content-Length", fmt.Sprint(len(audio)))
	r.write(string(audio[:len(audio)/2]))
	h.must(r.Conn.(*net.TCPConn).CloseWrite())
	h.problem(r.answer(), http.StatusBadRequest, "truncated")
	if diff := cmp.Diff(before, h.kept()); diff != "" {
		t.Errorf("kept (-before +after):\n%s", diff)
	}
}

func TestOddFraming(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	before := h.kept()
	// What follows the announced length is not this body's.
	whole := form(metadata(), noise(2000))
	r := h.dial()
	r.head(http.MethodPost, "/v1/interactions", "Content-Type", formType, "Content-Length", fmt.Sprint(len(whole)-60), "Connection", "close")
	r.write(whole)
	if a := r.answer(); a.StatusCode != http.StatusBadRequest {
		t.Errorf("longer than announced: %d %s", a.StatusCode, a.body)
	}
	r = h.dial()
	r.head(http.MethodPost, "/v1/interactions", "Content-Type", "application/json", "X-Filler", strings.Repeat(marker, 1<<16))
	if a := r.answer(); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge || bytes.Contains(a.body, []byte(marker)) {
		t.Errorf("an oversized header: %d %s", a.StatusCode, a.body)
	}
	r = h.dial()
	r.head(http.MethodPost, "/v1/interactions", "Content-Type", "application/json", "Content-Length", "-5")
	if a := r.answer(); a.StatusCode != http.StatusBadRequest {
		t.Errorf("a length that is none: %d %s", a.StatusCode, a.body)
	}
	h.idle()
	if diff := cmp.Diff(before, h.kept()); diff != "" {
		t.Errorf("kept (-before +after):\n%s", diff)
	}
}

func TestSlowBodies(t *testing.T) {
	t.Parallel()
	const stall = 400 * time.Millisecond
	h := open(t, setting{stall: stall})
	audio := noise(2000)
	path := "/v1/interactions/" + h.call().ID.String() + "/recordings/"
	before := h.kept()
	for _, c := range []struct {
		method, path string
		header       []string
		body         string
	}{
		{http.MethodPut, path + "audio", []string{"Content-Length", fmt.Sprint(len(audio))}, string(audio[:1000])},
		{http.MethodPost, "/v1/interactions", []string{"Content-Type", "application/json", "Content-Length", "1000"}, metadata()[:100]},
		{http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Content-Length", "9000"}, form(metadata(), audio)[:300]},
		{http.MethodPost, "/v1/interactions", []string{"Content-Type", formType, "Content-Length", "9000"}, form(metadata(), audio)[:2000]},
	} {
		r := h.dial()
		r.head(c.method, c.path, c.header...)
		r.write(c.body)
		h.problem(r.answer(), http.StatusRequestTimeout, "too_slow")
	}
	h.idle()
	if diff := cmp.Diff(before, h.kept()); diff != "" {
		t.Errorf("kept (-before +after):\n%s", diff)
	}
	r := h.dial()
	r.head(http.MethodPut, path+"slow", "Content-Length", fmt.Sprint(len(audio)))
	pace := time.NewTicker(stall / 4)
	defer pace.Stop()
	for piece := range 16 {
		<-pace.C
		from := piece * len(audio) / 16
		r.write(string(audio[from : (piece+1)*len(audio)/16]))
	}
	if a := r.answer(); a.StatusCode != http.StatusCreated {
		t.Errorf("slow, but steady: %d %s", a.StatusCode, a.body)
	}
	// Once the body is there, what is done with it may take its time.
	wait := func() {
		timer := time.NewTimer(2 * stall)
		defer timer.Stop()
		<-timer.C
	}
	h.store.afterPut.Store(&wait)
	if a := h.do(h.request(access.Uploader, http.MethodPut, path+"kept", bytes.NewReader(audio))); a.StatusCode != http.StatusCreated {
		t.Errorf("a store that takes its time: %d %s", a.StatusCode, a.body)
	}
}

// endless gives n bytes of one letter.
func endless(n int64) io.Reader { return io.LimitReader(letters{}, n) }

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// allocated is how much memory do asks for in all, client and server together.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Not parallel: it counts what the process allocates.
func TestGigabytesAreRefusedEarly(t *testing.T) { //nolint:paralleltest // see above
	h := open(t, setting{})
	before := h.kept()
	head := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n"
	for name, send := range map[string]func() *http.Request{
		"metadata": func() *http.Request {
			return h.request(access.Uploader, http.MethodPost, "/v1/interactions", io.MultiReader(strings.NewReader(head), endless(1<<30)), "Content-Type", formType)
		},
		"a preamble": func() *http.Request {
			return h.request(access.Uploader, http.MethodPost, "/v1/interactions", endless(1<<30), "Content-Type", formType)
		},
		"JSON": func() *http.Request {
			return h.request(access.Uploader, http.MethodPost, "/v1/interactions", endless(1<<30), "Content-Type", "application/json")
		},
		"of a typed route": func() *http.Request {
			return h.request(access.RecordsOfficer, http.MethodPost, "/v1/purges", endless(1<<30), "Content-Type", "application/json")
		},
	} {
		var a answer
		bytes := allocated(func() { a = h.do(send()) })
		if code := codeOf(a); a.StatusCode != http.StatusRequestEntityTooLarge && code != "multipart_framing" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
		if bytes > 24<<20 {
			t.Errorf("%s: %d MiB allocated", name, bytes>>20)
		}
	}
	h.idle()
	if diff := cmp.Diff(before, h.kept()); diff != "" {
		t.Errorf("kept (-before +after):\n%s", diff)
	}
}

// Files that claim or unfold to more than they are: taken in as they are, and
// flagged when they are looked into.
func TestHostileFilesAreFlagged(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	h := open(t, setting{})
	lying := wav(tone(1)[44:], 36_000*16_000)
	bomb := restated(h.ogg(60), 48_000*60*60*100)
	for name, c := range map[string]struct {
		file string
		sent []byte
		flag string
	}{
		"a lying header":  {"call.wav", lying, "lying_header"},
		"an Ogg of hours": {"call.ogg", bomb, "lying_header"},
	} {
		body := part("metadata", "", metadata()) + part("audio", `; filename="`+c.file+`"`, string(c.sent)) + "--" + boundary + "--\r\n"
		a := h.do(h.request(access.Uploader, http.MethodPost, "/v1/interactions", strings.NewReader(body), "Content-Type", formType))
		i := into[archive.Interaction](h, a, http.StatusCreated)
		bytes := allocated(func() { h.must(h.Archive.Analyse(h.Context(), i.Recordings[0].ID)) })
		i = into[archive.Interaction](h, h.get(access.Reviewer, "/v1/interactions/"+i.ID.String()), http.StatusOK)
		if r := i.Recordings[0]; r.State != "flagged" || len(r.Flags) == 0 || r.Flags[0] != c.flag {
			t.Errorf("%s: %s %v", name, r.State, r.Flags)
		}
		if bytes > 64<<20+8*uint64(len(c.sent)) {
			t.Errorf("%s of %d KiB: %d MiB allocated", name, len(c.sent)>>10, bytes>>20)
		}
	}
}

// ogg is that many seconds of silence in Opus, as little as possible.
func (h *house) ogg(seconds int) []byte {
	h.Helper()
	var out, said bytes.Buffer
	command := exec.CommandContext(h.Context(), "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", fmt.Sprint(seconds),
		"-c:a", "libopus", "-b:a", "500", "-f", "ogg", "-")
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		h.Fatalf("ffmpeg: %v: %s", err, said.String())
	}
	return out.Bytes()
}

// restated is an Ogg whose last page says that it ends at another sample.
func restated(ogg []byte, samples uint64) []byte {
	page := ogg[bytes.LastIndex(ogg, []byte("OggS")):]
	binary.LittleEndian.PutUint64(page[6:], samples)
	binary.LittleEndian.PutUint32(page[22:], 0)
	var sum uint32 // RFC 3533: 0x04c11db7, nothing inverted or reflected
	for _, b := range page {
		sum ^= uint32(b) << 24
		for range 8 {
			carry := sum >> 31
			sum = sum<<1 ^ carry*0x04c11db7
		}
	}
	binary.LittleEndian.PutUint32(page[22:], sum)
	return ogg
}

// PBXs write empty files for calls that nobody answered: the call is kept.
func TestEmptyRecordings(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	for name, sent := range map[string][]byte{"nothing": {}, "a header alone": wav(nil, 0), "a header never closed": wav(nil, 0xffffffff)} {
		i := into[archive.Interaction](h, h.upload(metadata(), sent), http.StatusCreated)
		r := i.Recordings[0]
		if r.State != "flagged" || r.Bytes != int64(len(sent)) || !slices.Contains(r.Flags, "empty") {
			t.Errorf("%s: %+v", name, r)
		}
		if a := h.get(access.Reviewer, audioPath(i.ID)); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, sent) {
			t.Errorf("%s: heard %d, %d bytes", name, a.StatusCode, len(a.body))
		}
	}
}
