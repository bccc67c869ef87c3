package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Exit codes: 0, 1 (failed), 2 (usage).
func TestCommandLine(t *testing.T) {
	t.Parallel()
	in := install(t)
	secret := in.command(t, "key", "create", "--role", "uploader", "--name", "pbx", "--source", "pbx", "--basis", "consent").expect(t, 0)
	if line := strings.TrimSuffix(secret.stdout, "\n"); !strings.HasPrefix(line, "ek_") || strings.ContainsAny(line, " \n") || secret.stderr != "" {
		t.Errorf("expected the key alone, got %q and %q", secret.stdout, secret.stderr)
	}
	password := in.command(t, "user", "create", "lan", "--role", "reviewer", "--name", "Nguyễn Thị Lan").expect(t, 0)
	if line := strings.TrimSuffix(password.stdout, "\n"); line == "" || strings.ContainsAny(line, " \n") {
		t.Errorf("expected the one-time password alone, got %q", password.stdout)
	}
	again := in.command(t, "user", "reset", "lan").expect(t, 0)
	if again.stdout == password.stdout {
		t.Error("the new one-time password is the old one")
	}

	t.Run("lists", func(t *testing.T) {
		t.Parallel()
		var keys []struct {
			ID, Role, Name string
		}
		text := in.command(t, "key", "list", "--json").expect(t, 0).stdout
		if err := json.Unmarshal([]byte(text), &keys); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if strings.Contains(text, strings.TrimSpace(secret.stdout)) {
			t.Error("the list shows a secret")
		}
		for _, k := range keys {
			if k.Name == "pbx" {
				in.command(t, "key", "revoke", k.ID).expect(t, 0)
			}
		}
		if table := in.command(t, "key", "list").expect(t, 0).stdout; strings.Count(table, "revoked") != 1 || !strings.Contains(table, "pbx") {
			t.Errorf("the table of keys:\n%s", table)
		}
		var users []struct{ Login string }
		text = in.command(t, "user", "list", "--json").expect(t, 0).stdout
		if err := json.Unmarshal([]byte(text), &users); err != nil || len(users) != 1 || users[0].Login != "lan" {
			t.Errorf("the list of users (%v): %s", err, text)
		}
		in.command(t, "migrate").expect(t, 0)
	})

	for name, test := range map[string]struct {
		code int
		says string
		args []string
	}{
		"help":             {0, "", []string{"--help"}},
		"nothing":          {0, "", nil},
		"version":          {0, "", []string{"--version"}},
		"unknown command":  {exitUsage, "frobnicate", []string{"frobnicate"}},
		"unknown flag":     {exitUsage, "--frobnicate", []string{"key", "list", "--frobnicate"}},
		"no role":          {exitUsage, "--role", []string{"key", "create", "--name", "x"}},
		"unknown role":     {exitUsage, "role", []string{"key", "create", "--name", "x", "--role", "king"}},
		"not a key's id":   {exitUsage, "", []string{"key", "revoke", "x"}},
		"no such key":      {exitFailed, "not found", []string{"key", "revoke", "01970000-0000-7000-8000-000000000000"}},
		"no such user":     {exitFailed, "login", []string{"user", "reset", "nobody"}},
		"address in error": {exitFailed, "EARMARK_ADDR", []string{"serve", "--addr", "203.0.113.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := in.command(t, test.args...).expect(t, test.code)
			if !strings.Contains(got.stderr, test.says) {
				t.Errorf("it does not say %q: %s", test.says, got.stderr)
			}
			if test.code == 0 && got.stdout == "" {
				t.Error("it prints nothing")
			}
		})
	}
	t.Run("no servers", func(t *testing.T) {
		t.Parallel()
		bare := &installation{env: map[string]string{"EARMARK_DATA": t.TempDir()}}
		got := bare.command(t, "serve").expect(t, exitUsage)
		for _, missing := range []string{"EARMARK_DATABASE_URL", "EARMARK_REDIS_URL", "EARMARK_KEK"} {
			if !strings.Contains(got.stderr, missing) {
				t.Errorf("it does not name %s: %s", missing, got.stderr)
			}
		}
		bare.command(t, "key", "list").expect(t, exitFailed)
	})
}

// Any number of services and workers share the work of one installation.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	in := install(t).onS3(t)
	fronts := []*process{in.start(t, nil, "serve"), in.start(t, nil, "serve")}
	workers := []*process{in.launch(t, nil, "worker"), in.launch(t, nil, "worker")}
	calls := newCalls(16)
	for i, c := range calls {
		takeIn(t, in.client(fronts[i%2], "uploader"), c)
	}
	for i, c := range calls {
		mustPlay(t, in.client(fronts[(i+1)%2], "reviewer"), c)
	}

	// Invariant 3, once: whichever of the two it is sent to.
	same := newCall()
	var group errgroup.Group
	statuses := make([]int, 8)
	for i := range statuses {
		group.Go(func() error {
			copied := *same
			a, err := copied.upload(t.Context(), in.client(fronts[i%2], "uploader"))
			statuses[i] = a.status
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, status := range statuses {
		switch status {
		case http.StatusCreated:
			made++
		case http.StatusOK:
		default:
			t.Errorf("status %d", status)
		}
	}
	if n := in.count(t, `select count(*) from interactions where source_id = $1`, same.sourceID); made != 1 || n != 1 {
		t.Errorf("taken in %d times, kept %d times", made, n)
	}

	in.awaitAnalysed(t)
	asked := in.preview(t, fronts[0], calls[:4]...)
	if _, err := in.approve(t, fronts[1], asked); err != nil {
		t.Fatal(err)
	}
	in.awaitPurge(t, fronts[0], asked)
	if n := in.count(t, `
		select count(*) from (
			select entry::jsonb ->> 'subject' as subject from ledger_entries where action = 'interaction.erased'
			union all
			select entry::jsonb ->> 'subject' from ledger_pending where entry::jsonb ->> 'action' = 'interaction.erased') erased`); n != 4 {
		t.Errorf("%d interactions are entered as erased, want 4", n)
	}
	in.awaitSequenced(t)
	// One is enough to go on.
	workers[0].stop(t)
	fronts[0].stop(t)
	late := newCall()
	takeIn(t, in.client(fronts[1], "uploader"), late)
	in.awaitAnalysed(t)
	workers[1].stop(t)
	fronts[1].stop(t)
	in.verifyAll(t)
}
