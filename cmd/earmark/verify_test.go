package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"earmark/internal/quality"
)

// archive with all that can be tampered with: calls that are kept, a purge and
// a draw.
type exhibits struct {
	kept        []*call
	asked       purge
	certificate []byte
	draw        string
	manifest    []byte
	receipt     []byte
}

func exhibit(t *testing.T, in *installation, p *process) (e exhibits) {
	t.Helper()
	e.kept = newCalls(4)
	doomed := newCall()
	takeIn(t, in.client(p, "uploader"), append(e.kept, doomed)...)
	e.asked = in.preview(t, p, doomed)
	if _, err := in.approve(t, p, e.asked); err != nil {
		t.Fatal(err)
	}
	_, e.certificate = in.awaitPurge(t, p, e.asked)
	in.awaitAnalysed(t)

	supervisor := in.client(p, "supervisor")
	var form, plan, draw struct {
		ID string `json:"id"`
	}
	supervisor.post(t, "/v1/forms", quality.ExampleForms()[0]).expect(t, http.StatusCreated).read(t, &form)
	supervisor.post(t, "/v1/sampling-plans", map[string]any{
		"name": "Weekly", "form_id": form.ID, "per_agent": 1, "filter": map[string]string{"channel": "voice"},
	}).expect(t, http.StatusCreated).read(t, &plan)
	supervisor.post(t, "/v1/sampling-plans/"+plan.ID+"/draws", map[string]string{
		"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z",
	}).expect(t, http.StatusCreated).read(t, &draw)
	e.draw = draw.ID
	e.manifest = in.client(p, "auditor").get(t, "/v1/draws/"+draw.ID+"/manifest").expect(t, http.StatusOK).body

	again, err := e.kept[0].upload(t.Context(), in.client(p, "uploader"))
	if err != nil {
		t.Fatal(err)
	}
	var taken struct {
		Receipt json.RawMessage `json:"receipt"`
	}
	again.expect(t, http.StatusOK).read(t, &taken)
	e.receipt = taken.Receipt
	return e
}

// Invariants 2, 4, 6, 8 and 12: whatever is changed behind the service's back
// is named by `earmark verify --all`, all of it at once.
func TestVerifyAllNamesWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	in := install(t)
	p := in.start(t, nil, "up")
	e := exhibit(t, in, p)
	in.awaitSequenced(t)
	p.stop(t)
	in.verifyAll(t)

	in.exec(t, `update ledger_entries set entry = replace(entry, '"action":"', '"action":"x') where leaf = 3`)
	in.exec(t, `delete from ledger_entries where leaf = 5`)
	in.exec(t, `update draws set manifest = overlay(manifest placing '\x58' from length(manifest) / 2) where id = $1`, e.draw)
	in.exec(t, `update purges set certificate = convert_to(replace(convert_from(certificate, 'UTF8'), 'end of the trial', 'end of the trail'), 'UTF8') where id = $1`, e.asked.ID)
	missing, flipped := in.original(t, e.kept[1]), in.original(t, e.kept[2])
	if err := os.Remove(in.object(missing)); err != nil {
		t.Fatal(err)
	}
	flipByte(t, in.object(flipped))
	stranger := "2020/01/02/" + uuid.NewString() + "/" + uuid.NewString() + ".age"
	plant(t, in.object(stranger))

	found := in.command(t, "verify", "--all").expect(t, exitFailed)
	for what, name := range map[string]string{
		"the changed entry":   "entry_changed: ",
		"the deleted entry":   "entry_missing: ",
		"the lost object":     missing + " is missing",
		"the flipped byte":    flipped + " is not what was sealed",
		"the unknown object":  stranger + " has no record",
		"the edited manifest": "draw " + e.draw,
		"the certificate":     e.asked.ID,
	} {
		if !strings.Contains(found.stdout, name) {
			t.Errorf("%s is not named (%q):\n%s", what, name, found.stdout)
		}
	}
	for _, untouched := range []*call{e.kept[0], e.kept[3]} {
		if strings.Contains(found.stdout, untouched.id) {
			t.Errorf("interaction %s is named and was not touched:\n%s", untouched.id, found.stdout)
		}
	}
}

// original is the key of a call's original.
func (in *installation) original(t *testing.T, c *call) (key string) {
	t.Helper()
	err := in.database.QueryRow(t.Context(), `
		select o.key from objects o join recordings r on r.id = o.recording_id
		where r.interaction_id = $1 and o.kind = 'original'`, c.id).Scan(&key)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// object is where an object lies on disk.
func (in *installation) object(key string) string {
	return filepath.Join(in.env["EARMARK_DATA"], "objects", "objects", filepath.FromSlash(key))
}

func flipByte(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-7] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// plant puts an object that is two hours old where nobody knows of it.
func plant(t *testing.T, path string) {
	t.Helper()
	old := time.Now().Add(-2 * time.Hour)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("nobody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

// Invariants 6 and 12: documents stand for themselves, offline, and not one
// byte of them may be another.
func TestVerifyDocuments(t *testing.T) {
	t.Parallel()
	in := install(t)
	p := in.start(t, nil, "up")
	e := exhibit(t, in, p)
	for name, document := range map[string][]byte{"certificate": e.certificate, "manifest": e.manifest, "receipt": e.receipt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in.verifyFile(t, p, document).expect(t, 0)
			digit := bytes.IndexAny(document, "0123456789")
			for _, at := range []int{digit, len(document) / 2, len(document) - 20} {
				tampered := bytes.Clone(document)
				if tampered[at]++; tampered[at] == '9'+1 {
					tampered[at] = '0'
				}
				refused := in.verifyFile(t, p, tampered).expect(t, exitFailed)
				if !strings.Contains(refused.stderr, "REFUSED") {
					t.Errorf("byte %d: %s", at, refused.stderr)
				}
			}
		})
	}
	t.Run("another's key", func(t *testing.T) {
		t.Parallel()
		other := install(t)
		in.verifyFile(t, other.start(t, nil, "up"), e.certificate).expect(t, exitFailed)
	})
	t.Run("usage", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "certificate.json")
		if err := os.WriteFile(file, e.certificate, 0o600); err != nil {
			t.Fatal(err)
		}
		// The service left its public key in its data directory.
		in.command(t, "verify", file).expect(t, 0)
		in.command(t, "verify").expect(t, exitUsage)
		in.command(t, "verify", "--all", file).expect(t, exitUsage)
		in.command(t, "verify", file+".none").expect(t, exitUsage)
		in.command(t, "verify", "--key", "nonsense", file).expect(t, exitUsage)
	})
}
