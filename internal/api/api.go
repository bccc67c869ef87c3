// Package api is the service's HTTP face for machines: /v1, its OpenAPI
// document, problem documents, health and metrics. A route binds what was
// sent, calls one operation and renders what came of it; who may do what is
// decided inside the operation.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/audit"
	"earmark/internal/consent"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

// Version is the program's; the build sets it.
var Version = "0.1.0"

// Options are the operations behind the routes.
type Options struct {
	Access    *access.Access
	Consent   *consent.Consent
	Archive   *archive.Archive
	Lifecycle *lifecycle.Lifecycle
	Quality   *quality.Quality
	Audit     *audit.Audit
	// Ready says why the service cannot work now, nil when it can.
	Ready func(context.Context) error
	Log   *slog.Logger
	// Pages mounts the pages for people on the same engine; nil: none.
	Pages func(*gin.Engine)
	// Stall is how long a request's body may stand still; a minute when 0.
	Stall time.Duration
}

// API is the handler together with what its tests look at.
type API struct {
	Options
	engine *gin.Engine
	huma   huma.API
	// routes are, by "METHOD /path", what their callers need to be allowed.
	routes map[string]needs
	// open are the routes that need nobody known.
	open map[string]bool
}

var errPanic = errors.New("panic")

// New mounts all routes. The handler it returns is safe for concurrent use.
func New(o Options) *API {
	gin.SetMode(gin.ReleaseMode)
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	a := &API{Options: o, engine: gin.New(), routes: map[string]needs{}, open: map[string]bool{}}
	a.engine.HandleMethodNotAllowed = true
	a.engine.ContextWithFallback = true
	a.engine.UseRawPath = true
	a.engine.Use(identify, observe(o.Log), survive(o.Log), harden, attend(o.Stall), crossOrigin(), authenticate(o.Access))
	a.engine.NoRoute(func(c *gin.Context) { refuse(c, statusProblem(http.StatusNotFound, "")) })
	a.engine.NoMethod(func(c *gin.Context) { refuse(c, statusProblem(http.StatusMethodNotAllowed, "")) })
	a.huma = humagin.New(a.engine, document())
	a.operations()
	a.interactions()
	a.recordings()
	a.customers()
	a.lifecycle()
	a.quality()
	a.ledger()
	a.access()
	if o.Pages != nil {
		o.Pages(a.engine)
	}
	return a
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.engine.ServeHTTP(w, r) }

// Times that a connection may take. A body has no bound of its own here: a
// recording may come slowly, and its handler watches its progress.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	headerBytes   = 64 << 10
)

// Server is an HTTP server for h with limits that protect it from slow and
// oversized requests.
func Server(addr string, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// document is the OpenAPI document before the routes are added.
func document() huma.Config {
	c := huma.DefaultConfig("Earmark", Version)
	c.Info.Description = "Call recordings and interactions, each ear-marked with why it may be heard and when it must go."
	c.CreateHooks = nil
	c.DocsPath = ""
	c.SchemasPath = ""
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[uuid.UUID](), reflect.TypeFor[idText]())
	c.RejectUnknownQueryParameters = true
	// What is required is the operations' own to say, in their words.
	c.FieldsOptionalByDefault = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":     {Type: "http", Scheme: "bearer", Description: "An API key: `earmark key create --role ROLE --name NAME`."},
		"session": {Type: "apiKey", In: "cookie", Name: SessionCookie, Description: "The session of a signed-in person."},
	}
	c.Security = []map[string][]string{{"key": {}}, {"session": {}}}
	return c
}

// idText has a UUID described, and checked, as what it is in JSON.
type idText string

func (idText) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Format: "uuid"}
	s.PrecomputeMessages()
	return s
}

// schemaName tells types of one name in several packages apart.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	from := path.Base(t.PkgPath())
	if t.Name() == "" || from == "api" || !strings.HasPrefix(t.PkgPath(), "earmark/") {
		return name
	}
	return strings.ToUpper(from[:1]) + from[1:] + name
}

// needs are the actions of which a route's caller must be allowed one. The
// operation decides by itself, too; this refuses before anything is read.
type needs []access.Action

// anybody who is known may call a route.
var anybody needs

func (n needs) check(ctx context.Context) error {
	actor, err := actorOf(ctx)
	if err != nil || len(n) == 0 {
		return err
	}
	for _, action := range n {
		if err = actor.May(action); err == nil {
			return nil
		}
	}
	return err
}

// route mounts an operation that takes and gives JSON. do gets who asks.
func route[I, O any](a *API, n needs, op huma.Operation, do func(context.Context, access.Actor, *I) (*O, error)) {
	name := a.declare(&op, n)
	op.BodyReadTimeout = -1 // attend has its own
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		if err := a.routes[name].check(ctx.Context()); err != nil {
			refuse(humagin.Unwrap(ctx), err)
			return
		}
		next(ctx)
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		actor, err := actorOf(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		out, err := do(ctx, actor, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// stream mounts a handler on gin itself, for bodies that are not JSON, and
// adds it to the OpenAPI document.
func (a *API) stream(n needs, op huma.Operation, handle func(*gin.Context, access.Actor) error) {
	name := a.declare(&op, n)
	a.huma.OpenAPI().AddOperation(&op)
	a.engine.Handle(op.Method, ginPath(op.Path), func(c *gin.Context) {
		err := a.routes[name].check(c.Request.Context())
		if err == nil {
			err = knownQuery(c, op.Parameters)
		}
		if err == nil {
			actor, _ := ActorFrom(c.Request.Context())
			err = handle(c, actor)
		}
		switch {
		case err == nil:
		case c.Writer.Written():
			// The status is out: all that is left is to make the client see
			// that the body is not whole.
			a.Log.Warn("response broken off", "request", requestID(c.Request.Context()), "route", c.FullPath(), "error", loggable(err))
			panic(http.ErrAbortHandler)
		default:
			refuse(c, err)
		}
	})
}

func (a *API) declare(op *huma.Operation, n needs) (name string) {
	name = op.Method + " " + op.Path
	a.routes[name] = n
	if len(n) > 0 {
		op.Extensions = map[string]any{"x-earmark-actions": n}
	}
	return name
}

// knownQuery refuses a query parameter that the route does not have, as the
// typed routes do: a misspelt one would go unseen.
func knownQuery(c *gin.Context, parameters []*huma.Param) error {
	e := &invalid.Error{}
	for name := range c.Request.URL.Query() {
		if !slices.ContainsFunc(parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }) {
			e.Add(plainLocation("query."+name), "unknown query parameter")
		}
	}
	return e.Err()
}

func (a *API) problem(ctx context.Context, err error) error {
	p := problemOf(ctx, err)
	return huma.ErrorWithHeaders(p, p.headers())
}

// ginPath turns OpenAPI's {name} into gin's :name.
func ginPath(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		switch path[i] {
		case '{':
			out = append(out, ':')
		case '}':
		default:
			out = append(out, path[i])
		}
	}
	return string(out)
}

// harden sets the headers that every answer has.
func harden(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	c.Next()
}

// crossOrigin refuses what another site makes a signed-in browser send.
func crossOrigin() gin.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(c *gin.Context) {
		if err := protection.Check(c.Request); err != nil {
			refuse(c, access.ErrForbidden)
			return
		}
		c.Next()
	}
}

// operations are the routes for those who run the service.
func (a *API) operations() {
	a.public(http.MethodGet, "/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	a.public(http.MethodGet, "/readyz", func(c *gin.Context) {
		ctx, cancel := context.WithTimeout(c.Request.Context(), 3*time.Second)
		defer cancel()
		if err := a.Ready(ctx); err != nil {
			a.Log.Warn("not ready", "error", loggable(err))
			c.String(http.StatusServiceUnavailable, "not ready\n")
			return
		}
		c.String(http.StatusOK, "ready\n")
	})
	a.public(http.MethodGet, "/metrics", gin.WrapH(promhttp.Handler()))
	a.public(http.MethodGet, "/docs", a.docs)
	a.public(http.MethodGet, "/docs.css", func(c *gin.Context) { c.Data(http.StatusOK, "text/css; charset=utf-8", docsCSS) })
	// huma mounts the OpenAPI documents.
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/openapi-3.0.json", "/openapi-3.0.yaml"} {
		a.open[http.MethodGet+" "+path] = true
	}
}

func (a *API) public(method, path string, handle gin.HandlerFunc) {
	a.open[method+" "+path] = true
	a.engine.Handle(method, ginPath(path), handle)
}
