// Package console is the pages for people: server-rendered, working without
// JavaScript, with one script for the player.
//
// A handler binds what was sent, calls one operation and renders what came of
// it; who may do what is decided inside the operation, and pages only leave out
// what would be refused.
package console

import (
	"context"
	"log/slog"
	"time"

	"github.com/gin-gonic/gin"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/consent"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

// Options are the operations behind the pages.
type Options struct {
	Access    *access.Access
	Consent   *consent.Consent
	Archive   *archive.Archive
	Lifecycle *lifecycle.Lifecycle
	Quality   *quality.Quality
	// Actor is who asks, as the service's own middleware found out from the
	// session cookie; ok is false for a stranger.
	Actor func(context.Context) (actor access.Actor, ok bool)
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	Log *slog.Logger
}

// Console is the pages. It is safe for concurrent use.
type Console struct {
	Options
	pages  pages
	assets assets
}

// SessionCookie is the name of the cookie that signing in sets.
const SessionCookie = "earmark_session"

// New reads the templates, the catalogues and the static files.
func New(o Options) (*Console, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Console{Options: o}
	var err error
	if c.assets, err = readAssets(); err != nil {
		return nil, err
	}
	if c.pages, err = readPages(c.assets); err != nil {
		return nil, err
	}
	return c, nil
}

// Mount adds the pages to the service's own engine, behind its middleware. It
// also answers people who ask for a page that is not there.
func (c *Console) Mount(e *gin.Engine) {
	e.Use(c.lost)
	e.GET("/assets/*file", c.visitor(c.asset))

	e.GET("/signin", c.visitor(c.signInForm))
	e.POST("/signin", c.visitor(c.signIn))
	e.POST("/signout", c.visitor(c.signOut))
	e.POST("/language", c.visitor(c.chooseLanguage))
	e.GET("/password", c.known(c.passwordForm))
	e.POST("/password", c.known(c.setPassword))

	c.mount(e, "GET", "/", c.home)
	c.mount(e, "GET", "/interactions", c.searchInteractions)
	c.mount(e, "GET", "/interactions/:id", c.interaction)

	c.mount(e, "GET", "/assignments", c.assignments)
	c.mount(e, "GET", "/assignments/:id", c.assignment)
	c.mount(e, "POST", "/assignments/:id", c.evaluate)
	c.mount(e, "POST", "/assignments/:id/skip", c.skip)
	c.mount(e, "GET", "/evaluations", c.evaluations)
	c.mount(e, "GET", "/evaluations/:id", c.evaluation)
	c.mount(e, "POST", "/evaluations/:id/release", c.release)

	c.mount(e, "GET", "/purges", c.purges)
	c.mount(e, "GET", "/purges/new", c.purgeForm)
	c.mount(e, "POST", "/purges", c.previewPurge)
	c.mount(e, "GET", "/purges/:id", c.purge)
	c.mount(e, "GET", "/purges/:id/progress", c.purgeProgress)
	c.mount(e, "POST", "/purges/:id/approve", c.approvePurge)
	c.mount(e, "POST", "/purges/:id/cancel", c.cancelPurge)
	c.mount(e, "GET", "/purges/:id/certificate", c.certificate)
	c.mount(e, "GET", "/purges/:id/certificate.json", c.certificateFile)

	c.mount(e, "GET", "/holds", c.holds)
	c.mount(e, "GET", "/holds/new", c.holdForm)
	c.mount(e, "POST", "/holds", c.placeHold)
	c.mount(e, "GET", "/holds/:id", c.hold)
	c.mount(e, "POST", "/holds/:id/request-release", c.requestRelease)
	c.mount(e, "POST", "/holds/:id/release", c.releaseHold)

	c.mount(e, "GET", "/policies", c.policies)
	c.mount(e, "POST", "/policies", c.proposePolicy)
	c.mount(e, "POST", "/policies/:id/approve", c.approvePolicy)
	c.mount(e, "POST", "/policies/:id/retire", c.retirePolicy)

	c.mount(e, "GET", "/people", c.people)
	c.mount(e, "POST", "/people/users", c.createUser)
	c.mount(e, "POST", "/people/users/:id/reset", c.resetPassword)
	c.mount(e, "POST", "/people/users/:id/disable", c.disableUser)
	c.mount(e, "POST", "/people/keys", c.createKey)
	c.mount(e, "POST", "/people/keys/:id/revoke", c.revokeKey)
}

// mount adds a page that needs a person who is signed in for good.
func (c *Console) mount(e *gin.Engine, method, path string, handle handler) {
	e.Handle(method, path, c.settled(handle))
}
