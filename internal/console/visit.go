package console

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/db"
)

// visit is one request to a page: who asks, and in which language.
type visit struct {
	*gin.Context
	console *Console
	actor   access.Actor
	known   bool
	lang    *locale
	nonce   string
}

// handler answers a visit; an error becomes a page that says it in words.
type handler func(*visit) error

func (c *Console) visit(g *gin.Context) *visit {
	v := &visit{Context: g, console: c, lang: localeOf(g.Request)}
	v.actor, v.known = c.Actor(g.Request.Context())
	return v
}

// visitor lets everybody in.
func (c *Console) visitor(handle handler) gin.HandlerFunc {
	return func(g *gin.Context) {
		v := c.visit(g)
		if err := handle(v); err != nil {
			v.fail(err)
		}
	}
}

// known lets in those who are signed in, and sends others to do so.
func (c *Console) known(handle handler) gin.HandlerFunc {
	return c.visitor(func(v *visit) error {
		if !v.known {
			return v.toSignIn()
		}
		return handle(v)
	})
}

// settled also sends those who signed in with a one-time password to change it.
func (c *Console) settled(handle handler) gin.HandlerFunc {
	return c.known(func(v *visit) error {
		if v.actor.MustChangePassword {
			return v.see("/password")
		}
		return handle(v)
	})
}

func (v *visit) toSignIn() error {
	to := "/signin"
	if back := v.Request.URL.RequestURI(); v.Request.Method == http.MethodGet && back != "/" {
		to += "?" + url.Values{"back": {back}}.Encode()
	}
	return v.see(to)
}

// see sends the browser to another page, by GET.
func (v *visit) see(path string) error {
	v.Redirect(http.StatusSeeOther, path)
	return nil
}

// done is see, with a word on what was done: a key below "said.".
func (v *visit) done(path, said string) error {
	u, err := url.Parse(path)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("said", said)
	u.RawQuery = q.Encode()
	return v.see(u.String())
}

// ownPath is where somebody wanted to go, if that is a page here.
func ownPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(path, "/") ||
		strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

// id reads the path. What is not an id is the id of nothing.
func (v *visit) id() (uuid.UUID, error) {
	id, err := uuid.Parse(v.Param("id"))
	if err != nil {
		return uuid.Nil, db.ErrNotFound
	}
	return id, nil
}

// field is what was sent in a form's field, without white space around it.
func (v *visit) field(name string) string { return strings.TrimSpace(v.PostForm(name)) }

// may says whether the actor's role includes the action.
func (v *visit) may(action access.Action) bool { return v.known && v.actor.May(action) == nil }

func (v *visit) now() time.Time { return v.console.Now() }

// allowStyles lets styles that carry the visit's nonce through the policy
// that forbids all others: the player's waveform lives in a shadow tree with a
// style element of its own.
func (v *visit) allowStyles() {
	v.nonce = rand.Text()
	const name = "Content-Security-Policy"
	h := v.Writer.Header()
	h.Set(name, strings.Replace(h.Get(name), "style-src 'self'", "style-src 'self' 'nonce-"+v.nonce+"'", 1))
}

// enhanced says that a script asks for a part of the page.
func (v *visit) enhanced() bool { return v.GetHeader("HX-Request") == "true" }

// lost answers people who ask for a page that is not there, in place of the
// problem document that programs get.
func (c *Console) lost(g *gin.Context) {
	if g.FullPath() == "" && wantsPage(g.Request) {
		g.Abort()
		c.visit(g).fail(errNoPage)
	}
}

var errNoPage = errors.New("no such page")

func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/v1/")
}
