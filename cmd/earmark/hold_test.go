package main

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"
)

// Invariant 5, a hold wins: placed while a purge runs, over HTTP, it stops the
// purge for an item or is told that the item is gone.
func TestHoldPlacedWhileAPurgeRuns(t *testing.T) {
	t.Parallel()
	in := install(t)
	p := in.start(t, nil, "up")
	records, reviewer := in.client(p, "records"), in.client(p, "reviewer")
	won, lost := 0, 0
	for range 30 {
		calls := newCalls(4)
		for _, c := range calls {
			a, err := c.announce(t.Context(), in.client(p, "uploader"))
			if err != nil {
				t.Fatal(err)
			}
			a.expect(t, http.StatusCreated)
		}
		asked := in.preview(t, p, calls...)
		wanted := slices.Clone(calls)
		rand.Shuffle(len(wanted), func(i, j int) { wanted[i], wanted[j] = wanted[j], wanted[i] })
		wanted = wanted[:1+rand.IntN(len(wanted))]
		approved := make(chan attempt, 1)
		go func() {
			a, err := in.approve(t, p, asked)
			approved <- attempt{a, err}
		}()
		<-time.After(rand.N(300 * time.Millisecond))
		var hold struct {
			ID   string   `json:"id"`
			Gone []string `json:"gone"`
		}
		records.post(t, "/v1/legal-holds", map[string]any{
			"matter": "2026-017", "reason": "before the court", "interactions": ids(wanted),
		}).expect(t, http.StatusCreated).read(t, &hold)
		if a := <-approved; a.err != nil || a.answer.status != http.StatusOK {
			t.Fatalf("approval: %v %s", a.err, a.answer.body)
		}
		eventually(t, "the purge ends", func() bool {
			var now purge
			records.get(t, "/v1/purges/"+asked.ID).read(t, &now)
			return now.State == "done"
		})
		for _, c := range wanted {
			gone := slices.Contains(hold.Gone, c.id)
			held := in.count(t, `select count(*) from holds where interaction_id = $1 and ref = $2`, c.id, hold.ID) == 1
			alive := in.count(t, `select count(*) from interactions where id = $1 and state = 'active' and wrapped_key is not null`, c.id) == 1
			if gone == held || held != alive {
				t.Errorf("interaction %s: told that it is gone: %v, held: %v, alive: %v", c.id, gone, held, alive)
			}
			if held {
				won++
			} else {
				lost++
				reviewer.get(t, c.audioPath()).expect(t, http.StatusGone)
			}
		}
	}
	t.Logf("%d holds came in time, %d too late", won, lost)
	if won == 0 || lost == 0 {
		t.Error("all schedules went the same way: this shows nothing")
	}
	in.verifyAll(t)
	p.stop(t)
}
