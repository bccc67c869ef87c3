// Package console is the pages for people: server-rendered, working without
// JavaScript, with one script for the player.
package console

import (
	"log/slog"

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
	Log       *slog.Logger
}

// Console is the pages. It is safe for concurrent use.
type Console struct{ Options }

// New reads the templates.
func New(o Options) (*Console, error) { return &Console{Options: o}, nil }

// Mount adds the pages to the service's own engine.
func (c *Console) Mount(*gin.Engine) {}
