package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// crash is how a service comes to a point at which it dies, and what is to
// hold once it has been started again.
type crash struct {
	name string
	// warned says that the point lies on every service's way: what is kept is
	// taken in before, by a service that does not die there.
	warned bool
	// provoke has the service come to the point; after looks at the next one.
	provoke func(t *testing.T, s *scene)
	after   func(t *testing.T, s *scene)
}

// scene is an installation and what was sent to it.
type scene struct {
	*installation
	p *process
	// kept were acknowledged before and are to be there ever after.
	kept []*call
	// sent was on its way.
	sent    *call
	asked   purge
	doomed  []*call
	holding string
}

// crashes are the ways to every fault point of the program.
var crashes = map[string][]crash{
	"archive.stored":                {uploading, putting},
	"archive.committed":             {uploading, announcing, putting},
	"archive.key_destroyed":         {purging},
	"archive.objects_removed":       {purging},
	"archive.scrubbed":              {purging},
	"lifecycle.approved":            {purging},
	"lifecycle.batch_destroyed":     {purging},
	"lifecycle.objects_removed":     {purging},
	"lifecycle.batch_done":          {purging},
	"lifecycle.before_certificate":  {purging},
	"lifecycle.recomputed_batch":    {approvingPolicy},
	"lifecycle.hold_batch_placed":   {placingHold},
	"lifecycle.hold_batch_released": {releasingHold},
	"audit.sequenced":               {sequencing},
}

// Invariants 1, 2, 5 and 6, acknowledged is kept, nothing half-there, a hold
// wins, gone is gone: whatever the moment at which the service dies.
func TestKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	for point, ways := range crashes {
		for _, way := range ways {
			t.Run(point+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				dieAt(t, point, way)
			})
		}
	}
}

func dieAt(t *testing.T, point string, way crash) {
	s := &scene{installation: install(t).onS3(t), kept: newCalls(2)}
	fault := []string{"EARMARK_FAULT=" + point}
	if way.warned {
		s.p = s.start(t, nil, "up")
		takeIn(t, s.client(s.p, "uploader"), s.kept...)
		s.awaitSequenced(t)
		s.p.stop(t)
		s.p = s.start(t, fault, "up")
	} else {
		s.p = s.start(t, fault, "up")
		takeIn(t, s.client(s.p, "uploader"), s.kept...)
	}
	way.provoke(t, s)
	s.p.waitKilled(t)

	s.p = s.start(t, nil, "up")
	mustPlay(t, s.client(s.p, "reviewer"), s.kept...)
	way.after(t, s)
	s.awaitAnalysed(t)
	mustPlay(t, s.client(s.p, "reviewer"), s.kept...)
	s.verifyAll(t)
	s.p.stop(t)
}

// died expects a request's answer to be lost with the service.
func died(t *testing.T, a answer, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
}

var uploading = crash{
	name: "upload", warned: true,
	provoke: func(t *testing.T, s *scene) {
		s.sent = newCall()
		a, err := s.sent.upload(t.Context(), s.client(s.p, "uploader"))
		died(t, a, err)
	},
	after: sendAgain,
}

// sendAgain is what every softphone does: it is one interaction, whatever
// became of the first attempt.
func sendAgain(t *testing.T, s *scene) {
	committed := s.count(t, `select count(*) from interactions where source_id = $1`, s.sent.sourceID)
	for _, status := range []int{http.StatusCreated - committed, http.StatusOK} {
		a, err := s.sent.upload(t.Context(), s.client(s.p, "uploader"))
		if err != nil {
			t.Fatal(err)
		}
		a.expect(t, status)
	}
	if n := s.count(t, `select count(*) from interactions where source_id = $1`, s.sent.sourceID); n != 1 {
		t.Errorf("%d interactions of one call", n)
	}
	s.kept = append(s.kept, s.sent)
}

var announcing = crash{
	name: "announcement", warned: true,
	provoke: func(t *testing.T, s *scene) {
		s.sent = newCall()
		a, err := s.sent.announce(t.Context(), s.client(s.p, "uploader"))
		died(t, a, err)
	},
	after: sendAgain,
}

var putting = crash{
	name: "raw", warned: true,
	provoke: func(t *testing.T, s *scene) {
		s.sent = newCall()
		// Announced to a service that survives it.
		sound := s.start(t, nil, "serve")
		a, err := s.sent.announce(t.Context(), s.client(sound, "uploader"))
		if err != nil {
			t.Fatal(err)
		}
		a.expect(t, http.StatusCreated)
		sound.stop(t)
		a, err = s.sent.put(t.Context(), s.client(s.p, "uploader"))
		died(t, a, err)
	},
	after: func(t *testing.T, s *scene) {
		committed := s.count(t, `select count(*) from recordings r join interactions i on i.id = r.interaction_id where i.source_id = $1`, s.sent.sourceID)
		for _, status := range []int{http.StatusCreated - committed, http.StatusOK} {
			a, err := s.sent.put(t.Context(), s.client(s.p, "uploader"))
			if err != nil {
				t.Fatal(err)
			}
			a.expect(t, status)
		}
		s.kept = append(s.kept, s.sent)
	},
}

var purging = crash{
	name: "purge",
	provoke: func(t *testing.T, s *scene) {
		s.doomed = newCalls(3)
		takeIn(t, s.client(s.p, "uploader"), s.doomed...)
		s.holding = s.hold(t, s.p, s.kept[0])
		s.asked = s.preview(t, s.p, append(slices.Clone(s.doomed), s.kept[0])...)
		// The service may be dead before it answers.
		if a, err := s.approve(t, s.p, s.asked); err == nil {
			a.expect(t, http.StatusOK)
		}
	},
	after: func(t *testing.T, s *scene) {
		done, certificate := s.awaitPurge(t, s.p, s.asked)
		if diff := cmp.Diff(map[string]int{"gone": 3, "exempt": 1}, done.Progress); diff != "" {
			t.Errorf("items (-want +got):\n%s", diff)
		}
		for _, c := range s.doomed {
			if !bytes.Contains(certificate, []byte(c.id)) {
				t.Errorf("the certificate does not name %s", c.id)
			}
			for _, key := range s.stored(t) {
				if strings.Contains(key, c.id) {
					t.Errorf("object %s is left", key)
				}
			}
		}
		mustBeErased(t, s.client(s.p, "reviewer"), s.doomed...)
		if n := s.count(t, `select count(*) from holds where ref = $1`, s.holding); n != 1 {
			t.Errorf("the hold keeps %d interactions, want 1", n)
		}
	},
}

var approvingPolicy = crash{
	name: "policy",
	provoke: func(t *testing.T, s *scene) {
		s.multiply(t, s.kept[0], 1200) // more than one batch
		var policy struct {
			ID string `json:"id"`
		}
		s.client(s.p, "records").post(t, "/v1/retention-policies", map[string]any{
			"name": "ten years", "priority": 1, "match": map[string]string{"channel": "voice"}, "keep_days": 3650,
		}).expect(t, http.StatusCreated).read(t, &policy)
		if a, err := s.client(s.p, "second").tryPost(t, "/v1/retention-policies/"+policy.ID+"/approve", struct{}{}); err == nil {
			a.expect(t, http.StatusOK)
		}
	},
	after: func(t *testing.T, s *scene) {
		eventually(t, "the policy reaches every interaction", func() bool {
			return s.count(t, `select count(*) from interactions where retain_until is null`) == 0
		})
	},
}

// multiply adds copies of a call, without audio, as if it had often been made.
func (s *scene) multiply(t *testing.T, c *call, times int) {
	t.Helper()
	s.exec(t, `
		insert into interactions
		select (jsonb_populate_record(i, jsonb_build_object('id', gen_random_uuid(), 'source_id', 'copy-' || n,
			'identity', '\x' || encode(sha256(n::text::bytea), 'hex')))).*
		from interactions i, generate_series(1, $2) n where i.id = $1`, c.id, times)
}

// filteredHold is a hold on all calls, which is placed in batches.
var filteredHold = map[string]any{
	"matter": "2026-018", "reason": "before the court", "filter": map[string]string{"channel": "voice"},
}

var placingHold = crash{
	name: "hold",
	provoke: func(t *testing.T, s *scene) {
		a, err := s.client(s.p, "records").tryPost(t, "/v1/legal-holds", filteredHold)
		died(t, a, err)
	},
	after: func(t *testing.T, s *scene) {
		s.sweepNow(t)
		eventually(t, "the hold is placed to its end", func() bool {
			return s.count(t, `select count(*) from legal_holds where searching`) == 0
		})
		if n := s.count(t, `select count(*) from holds where kind = 'legal'`); n != len(s.kept) {
			t.Errorf("%d interactions are held, want %d", n, len(s.kept))
		}
	},
}

// sweepNow has the service's hourly sweep come at once.
func (s *scene) sweepNow(t *testing.T) {
	t.Helper()
	s.exec(t, `update schedules set next_at = now() where kind = 'retention.sweep'`)
}

var releasingHold = crash{
	name: "release",
	provoke: func(t *testing.T, s *scene) {
		hold := "/v1/legal-holds/" + s.hold(t, s.p, s.kept...)
		s.client(s.p, "records").post(t, hold+"/request-release", struct{}{}).expect(t, http.StatusOK)
		a, err := s.client(s.p, "second").tryPost(t, hold+"/release", struct{}{})
		died(t, a, err)
	},
	after: func(t *testing.T, s *scene) {
		s.sweepNow(t)
		eventually(t, "nothing is held any more", func() bool {
			return s.count(t, `select count(*) from holds`) == 0
		})
	},
}

var sequencing = crash{
	name: "ledger", warned: true,
	provoke: func(t *testing.T, s *scene) {
		s.sent = newCall()
		// The service may die before it answers, or after.
		if a, err := s.sent.upload(t.Context(), s.client(s.p, "uploader")); err == nil {
			a.expect(t, http.StatusCreated)
			s.kept = append(s.kept, s.sent)
		}
	},
	after: func(t *testing.T, s *scene) {
		sendAgain(t, s)
		s.awaitSequenced(t)
	},
}

var (
	faultPoint = regexp.MustCompile(`fault\.Point\("([a-z_.]+)"\)`)
	moment     = regexp.MustCompile(`l\.at\("([a-z_]+)"\)`)
)

// TestEveryPointIsNamed keeps a new fault point from going untried.
func TestEveryPointIsNamed(t *testing.T) {
	t.Parallel()
	var points []string
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range faultPoint.FindAllSubmatch(code, -1) {
			points = append(points, string(found[1]))
		}
		for _, found := range moment.FindAllSubmatch(code, -1) {
			points = append(points, fmt.Sprintf("%s.%s", filepath.Base(filepath.Dir(path)), found[1]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for point := range crashes {
		named = append(named, point)
	}
	slices.Sort(named)
	slices.Sort(points)
	if diff := cmp.Diff(slices.Compact(points), named); diff != "" {
		t.Errorf("fault points (-in the code +named here):\n%s", diff)
	}
}
