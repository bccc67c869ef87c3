package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPasswordsAtTheirRealCost(t *testing.T) {
	t.Parallel()
	p := newPasswords(normalCost)
	stored, err := p.hash(t.Context(), "a fine long one")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("not a PHC string: %s", stored)
	}
	ok, weak, err := p.matches(t.Context(), "a fine long one", stored)
	if !ok || weak || err != nil {
		t.Errorf("the right password: %v, %v, %v", ok, weak, err)
	}
	ok, _, err = p.matches(t.Context(), "a fine long 0ne", stored)
	if ok || err != nil {
		t.Errorf("a wrong password: %v, %v", ok, err)
	}
	ok, _, err = p.matches(t.Context(), "", "")
	if ok || err != nil {
		t.Errorf("no password of nobody: %v, %v", ok, err)
	}
}

// The vector is the reference implementation's (phc-winner-argon2, src/test.c:
// version 0x13, t=2, m=16, p=1, "password", "somesalt", argon2id).
func TestAHashThatOthersMade(t *testing.T) {
	t.Parallel()
	const stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	p := newPasswords(normalCost)
	if ok, weak, err := p.matches(t.Context(), "password", stored); !ok || !weak || err != nil {
		t.Errorf("the right password: %v, %v, %v", ok, weak, err)
	}
	if ok, _, err := p.matches(t.Context(), "passw0rd", stored); ok || err != nil {
		t.Errorf("a wrong password: %v, %v", ok, err)
	}
	if _, _, err := p.matches(t.Context(), "password", strings.Replace(stored, "argon2id", "argon2i", 1)); !errors.Is(err, errPasswordHash) {
		t.Errorf("argon2i is taken for argon2id: %v", err)
	}
}

func TestFewHashAtOnceAndNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	p := newPasswords(cost{memory: 64, time: 1, lanes: 1})
	for range hashesAtOnce {
		p.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.hash(ctx, "a fine long one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third hash at once: %v", err)
	}
	<-p.slots
	if _, err := p.hash(t.Context(), "a fine long one"); err != nil {
		t.Error(err)
	}
}

func TestOneTimePasswordsDiffer(t *testing.T) {
	t.Parallel()
	a, b := oneTimePassword(), oneTimePassword()
	if a == b || len(strings.ReplaceAll(a, "-", "")) < 26 {
		t.Errorf("%d and %d characters", len(a), len(b))
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAttempts()
	now := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	for range attemptsAtOnce {
		a.allow("victim", now)
	}
	for i := range maxLogins * 2 {
		a.allow(fmt.Sprint(i), now)
		now = now.Add(time.Millisecond)
		if len(a.byLogin) > maxLogins {
			t.Fatalf("%d logins are remembered", len(a.byLogin))
		}
	}
	// All who tried once have their tries again, so they make room first.
	a = newAttempts()
	for i := range maxLogins - 1 {
		a.allow(fmt.Sprint(i), now)
	}
	now = now.Add(attemptEvery)
	for range attemptsAtOnce {
		a.allow("victim", now)
	}
	a.allow("one more", now)
	if a.allow("victim", now) {
		t.Error("a throttled login was forgotten while others could go")
	}
	if len(a.byLogin) != 2 {
		t.Errorf("%d logins are remembered", len(a.byLogin))
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=4294967295,t=0,p=0$$")
	f.Add("$argon2id$v=19$m=1,t=1,p=256$c29tZXNhbHQ$c29tZXNhbHQ")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parsePHC(text)
		if err != nil {
			return
		}
		again, err := parsePHC(h.String())
		if err != nil || again.String() != h.String() {
			t.Errorf("%q: %v", text, err)
		}
		if h.time == 0 || h.lanes == 0 || h.memory > 1<<20 {
			t.Errorf("%q: a cost that cannot be paid", text)
		}
	})
}
