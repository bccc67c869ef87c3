package access

import (
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A login may be tried ten times at once and then every six seconds.
	attemptsAtOnce = 10
	attemptEvery   = 6 * time.Second
	maxLogins      = 10_000
)

// attempts counts the tries at each login, known or not.
type attempts struct {
	mu      sync.Mutex
	byLogin map[[sha256.Size]byte]*rate.Limiter
}

func newAttempts() *attempts {
	return &attempts{byLogin: map[[sha256.Size]byte]*rate.Limiter{}}
}

// allow says whether login may be tried at now, and counts it.
func (a *attempts) allow(login string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := sha256.Sum256([]byte(login))
	limiter := a.byLogin[key]
	if limiter == nil {
		a.makeRoom(now)
		limiter = rate.NewLimiter(rate.Every(attemptEvery), attemptsAtOnce)
		a.byLogin[key] = limiter
	}
	return limiter.AllowN(now, 1)
}

// forget clears what was counted, after the right password.
func (a *attempts) forget(login string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byLogin, sha256.Sum256([]byte(login)))
}

// makeRoom drops the logins that have all their tries again, and, where that
// is not enough, any one.
func (a *attempts) makeRoom(now time.Time) {
	if len(a.byLogin) < maxLogins {
		return
	}
	for key, limiter := range a.byLogin {
		if limiter.TokensAt(now) >= attemptsAtOnce {
			delete(a.byLogin, key)
		}
	}
	for key := range a.byLogin {
		if len(a.byLogin) < maxLogins {
			return
		}
		delete(a.byLogin, key)
	}
}
