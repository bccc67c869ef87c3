package standalone

import (
	"crypto/rand"
	"net/url"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often miniredis is told that time has passed, hence how late a
// key may expire.
const tick = 200 * time.Millisecond

type redis struct {
	server   *miniredis.Miniredis
	password string
	quit     chan struct{}
	ticking  sync.WaitGroup
}

// startRedis listens on a free loopback port. Nothing durable is kept in it:
// what is due lives in PostgreSQL.
func startRedis() (*redis, error) {
	r := &redis{server: miniredis.NewMiniRedis(), password: rand.Text(), quit: make(chan struct{})}
	r.server.RequireAuth(r.password)
	if err := r.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, err
	}
	r.ticking.Go(r.passTime)
	return r, nil
}

// passTime lets keys expire: miniredis has no clock of its own.
func (r *redis) passTime() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-r.quit:
			return
		case now := <-ticker.C:
			r.server.FastForward(now.Sub(last))
			last = now
		}
	}
}

func (r *redis) url() string {
	u := url.URL{
		Scheme: "redis",
		User:   url.UserPassword("default", r.password),
		Host:   r.server.Addr(),
		Path:   "/0",
	}
	return u.String()
}

func (r *redis) stop() {
	close(r.quit)
	r.ticking.Wait()
	r.server.Close()
}
