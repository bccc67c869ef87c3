package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"earmark/internal/access"
)

type contextKey int

const (
	requestIDKey contextKey = iota
	actorKey
)

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// ActorFrom is who asks, as the middleware found; ok is false for a stranger.
func ActorFrom(ctx context.Context) (actor access.Actor, ok bool) {
	actor, ok = ctx.Value(actorKey).(access.Actor)
	return actor, ok
}

func actorOf(ctx context.Context) (access.Actor, error) {
	actor, ok := ActorFrom(ctx)
	if !ok {
		return access.Actor{}, access.ErrUnauthenticated
	}
	return actor, nil
}

var wellFormedID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// identify gives each request an id, or keeps the one its sender gave.
func identify(c *gin.Context) {
	id := c.GetHeader("X-Request-Id")
	if !wellFormedID.MatchString(id) {
		id = uuid.NewString()
	}
	c.Header("X-Request-Id", id)
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), requestIDKey, id))
	c.Next()
}

var requestSeconds = promauto.NewHistogramVec(prometheus.HistogramOpts{
	Name:    "earmark_http_request_seconds",
	Help:    "How long requests took, by route, method and status.",
	Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
}, []string{"route", "method", "status"})

// observe logs and measures each request by its route: the address itself may
// hold a customer's number and is not kept.
func observe(log *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		began := time.Now()
		c.Next()
		route := c.FullPath()
		if route == "" {
			route = "unknown"
		}
		method, status := knownMethod(c.Request.Method), c.Writer.Status()
		requestSeconds.WithLabelValues(route, method, strconv.Itoa(status)).Observe(time.Since(began).Seconds())
		level := slog.LevelDebug
		if status >= http.StatusInternalServerError {
			level = slog.LevelWarn
		}
		log.Log(c.Request.Context(), level, "request", "request", requestID(c.Request.Context()),
			"method", method, "route", route, "status", status, "took", time.Since(began))
	}
}

// knownMethod is a method of HTTP's own: of those that senders invent, each
// would be a time series for ever.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "unknown"
}

// survive turns a panic into an opaque 500.
func survive(log *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if broken, ok := p.(error); ok && errors.Is(broken, http.ErrAbortHandler) {
				panic(p)
			}
			log.Error("panic", "request", requestID(c.Request.Context()), "route", c.FullPath(), "stack", string(debug.Stack()))
			if c.Writer.Written() {
				panic(http.ErrAbortHandler) // what is out must not pass for the whole
			}
			refuse(c, errPanic)
		}()
		c.Next()
	}
}

// SessionCookie is the name of the cookie that a signed-in person's browser sends.
const SessionCookie = "earmark_session"

// authenticate finds out who asks. A wrong key is refused here; a missing one
// only where the route needs somebody.
func authenticate(a *access.Access) gin.HandlerFunc {
	return func(c *gin.Context) {
		ctx := c.Request.Context()
		actor, found, err := whoAsks(ctx, a, c.Request)
		if err != nil {
			refuse(c, err)
			return
		}
		if found {
			c.Request = c.Request.WithContext(context.WithValue(ctx, actorKey, actor))
		}
		c.Next()
	}
}

func whoAsks(ctx context.Context, a *access.Access, r *http.Request) (actor access.Actor, found bool, err error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, secret, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return access.Actor{}, false, access.ErrUnauthenticated
		}
		actor, err = a.AuthenticateKey(ctx, strings.TrimSpace(secret))
		return actor, err == nil, err
	}
	cookie, err := r.Cookie(SessionCookie)
	if errors.Is(err, http.ErrNoCookie) {
		return access.Actor{}, false, nil
	}
	if err != nil {
		return access.Actor{}, false, err
	}
	actor, err = a.AuthenticateSession(ctx, cookie.Value)
	if errors.Is(err, access.ErrUnauthenticated) {
		// A session that has ended makes a stranger, who may sign in again.
		return access.Actor{}, false, nil
	}
	return actor, err == nil, err
}
