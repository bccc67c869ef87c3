package console

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
)

type holdsPage struct {
	archive.Page[lifecycle.Hold]
	State  string
	States []string
	Next   string
	Names  names
}

var holdStates = []string{"active", "release_requested", "released"}

func (c *Console) holds(v *visit) error {
	p := holdsPage{State: v.Query("state"), States: holdStates}
	var err error
	p.Page, err = c.Lifecycle.Holds(v.Request.Context(), v.actor, lifecycle.List{State: p.State, Cursor: v.Query("cursor")})
	if err != nil {
		return err
	}
	p.Next = pageAddress(v, p.NextCursor)
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("holds", "holds.title", p)
}

func (c *Console) holdForm(v *visit) error {
	if err := v.actor.May(access.PlaceHolds); err != nil {
		return err
	}
	return c.showHoldForm(v, http.StatusOK, form{Values: v.Request.URL.Query()})
}

func (c *Console) showHoldForm(v *visit, status int, f form) error {
	p := selection(f)
	if id, err := uuid.Parse(f.Get("interaction")); err == nil {
		if p.One, err = c.glimpse(v, id); err != nil {
			return err
		}
	}
	return v.render(status, "hold_new", "holds.new", p)
}

// placeHold holds one interaction, where the form names one, or all that its
// search finds.
func (c *Console) placeHold(v *visit) error {
	sent, err := v.sentForm()
	if err != nil {
		return err
	}
	n := lifecycle.NewHold{Matter: sent.Get("matter"), Reason: sent.Get("reason")}
	if one := sent.Get("interaction"); one != "" {
		id, wrong := uuid.Parse(one)
		if wrong != nil {
			err = invalid.New("body.interactions", "the id of an interaction")
		}
		n.Interactions = []uuid.UUID{id}
	} else {
		n.Filter, err = readFilter(sent)
	}
	if err == nil {
		var h lifecycle.Hold
		if h, err = c.Lifecycle.PlaceHold(v.Request.Context(), v.actor, n); err == nil {
			return v.done("/holds/"+h.ID.String(), "hold_placed")
		}
	}
	status, err := sent.refuse(err)
	if err != nil {
		return err
	}
	return c.showHoldForm(v, status, sent)
}

type holdPage struct {
	lifecycle.Hold
	// Same says that the actor asked for the release, and so cannot approve it.
	Same     bool
	Criteria []criterion
	Names    names
}

func (c *Console) hold(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	ctx := v.Request.Context()
	var p holdPage
	if p.Hold, err = c.Lifecycle.Hold(ctx, v.actor, id); err != nil {
		return err
	}
	if p.ReleaseRequestedBy != nil {
		p.Same = errors.Is(v.actor.Approves(*p.ReleaseRequestedBy), access.ErrSamePerson)
	}
	if p.Criteria, err = criteria(p.Filter); err != nil {
		return err
	}
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("hold", "hold.title", p)
}

func (c *Console) requestRelease(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, err := c.Lifecycle.RequestRelease(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/holds/"+id.String(), "release_requested")
}

func (c *Console) releaseHold(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, err := c.Lifecycle.ApproveRelease(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/holds/"+id.String(), "hold_released")
}
