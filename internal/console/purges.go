package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
)

type purgesPage struct {
	archive.Page[lifecycle.Purge]
	State  string
	States []string
	Next   string
	Names  names
}

var purgeStates = []string{"previewed", "approved", "running", "done", "cancelled"}

func (c *Console) purges(v *visit) error {
	p := purgesPage{State: v.Query("state"), States: purgeStates}
	var err error
	p.Page, err = c.Lifecycle.Purges(v.Request.Context(), v.actor, lifecycle.List{State: p.State, Cursor: v.Query("cursor")})
	if err != nil {
		return err
	}
	p.Next = pageAddress(v, p.NextCursor)
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("purges", "purges.title", p)
}

// selectionPage is a form that chooses interactions: for a purge or a hold.
type selectionPage struct {
	Form       form
	Channels   []string
	Directions []string
	// Guard is what the guard rail has against the purge, once it was asked.
	Guard *lifecycle.GuardRailError
	// One is the only interaction that a hold is to be placed on.
	One *archive.Interaction
}

func selection(f form) selectionPage {
	return selectionPage{Form: f, Channels: archive.Channels, Directions: archive.Directions}
}

func (c *Console) purgeForm(v *visit) error {
	if err := v.actor.May(access.RequestPurges); err != nil {
		return err
	}
	return v.show("purge_new", "purges.new", selection(form{Values: v.Request.URL.Query()}))
}

// previewPurge writes a purge down for another person to approve. A form that
// asks for nothing in particular is refused: everything is never meant.
func (c *Console) previewPurge(v *visit) error {
	sent, err := v.sentForm()
	if err != nil {
		return err
	}
	filter, err := readFilter(sent)
	if err == nil {
		var p lifecycle.Purge
		p, err = c.Lifecycle.Preview(v.Request.Context(), v.actor, lifecycle.NewPurge{
			Reason: sent.Get("reason"), Filter: filter, Override: sent.Has("override", "yes"),
		})
		if err == nil {
			return v.done("/purges/"+p.ID.String(), "previewed")
		}
	}
	status, refused := sent.refuse(err)
	if refused != nil {
		return refused
	}
	page := selection(sent)
	errors.As(err, &page.Guard)
	return v.render(status, "purge_new", "purges.new", page)
}

func readFilter(f form) (*archive.Query, error) {
	if !slices.ContainsFunc(queryFields, func(name string) bool { return f.Get(name) != "" }) {
		return nil, invalid.New("body.filter", "say in at least one field which interactions are meant")
	}
	q, err := readQuery(f.Get)
	return &q, err
}

type purgePage struct {
	lifecycle.Purge
	// Same says that the actor asked for it, and so cannot approve it.
	Same  bool
	Items []lifecycle.Item
	Names names
	// Criteria are what was searched for, by the names of the form's fields.
	Criteria []criterion
}

type criterion struct{ Name, Value string }

// Under says that it is under way.
func (p purgePage) Under() bool { return p.State == "approved" || p.State == "running" }

// Total is how many it had to deal with, and Settled how many it has.
func (p purgePage) Total() int   { return p.Purge.Items + p.Exempt }
func (p purgePage) Settled() int { return p.Progress["gone"] + p.Progress["exempt"] }

func (c *Console) purge(v *visit) error {
	p, err := c.readPurge(v)
	if err != nil {
		return err
	}
	f := frame{Title: v.lang.say("purge.title"), Data: p}
	if p.Under() {
		f.Refresh = 5
	}
	return v.renderFrame(http.StatusOK, "purge", f)
}

func (c *Console) readPurge(v *visit) (*purgePage, error) {
	id, err := v.id()
	if err != nil {
		return nil, err
	}
	ctx := v.Request.Context()
	p := &purgePage{}
	if p.Purge, err = c.Lifecycle.Purge(ctx, v.actor, id); err != nil {
		return nil, err
	}
	p.Same = errors.Is(v.actor.Approves(p.RequestedBy), access.ErrSamePerson)
	if p.Criteria, err = criteria(p.Filter); err != nil {
		return nil, err
	}
	p.Names, err = c.names(v)
	return p, err
}

// criteria reads a filter as the features keep it: by the names of the fields.
func criteria(q *archive.Query) ([]criterion, error) {
	if q == nil {
		return nil, nil
	}
	data, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("read a filter: %w", err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("read a filter: %w", err)
	}
	var all []criterion
	for _, name := range queryFields {
		value, ok := fields[name]
		if !ok {
			continue
		}
		text := fmt.Sprint(value)
		// The last day is part of a search, as it was asked for.
		switch {
		case name == "from" && q.From != nil:
			text = q.From.In(place).Format("02/01/2006 15:04")
		case name == "to" && q.To != nil:
			text = q.To.In(place).Format("02/01/2006 15:04")
		}
		all = append(all, criterion{name, text})
	}
	return all, nil
}

// purgeProgress is the part of the page that changes while a purge runs; when
// it is done the whole page is loaded again, with its certificate.
func (c *Console) purgeProgress(v *visit) error {
	p, err := c.readPurge(v)
	if err != nil {
		return err
	}
	if !p.Under() {
		if !v.enhanced() {
			return v.see("/purges/" + p.ID.String())
		}
		v.Header("HX-Refresh", "true")
	}
	return v.part("purge", "purge-progress", p)
}

func (c *Console) approvePurge(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, err := c.Lifecycle.Approve(v.Request.Context(), v.actor, id, v.field("override") == "yes"); err != nil {
		return err
	}
	return v.done("/purges/"+id.String(), "purge_approved")
}

func (c *Console) cancelPurge(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, err := c.Lifecycle.Cancel(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/purges/"+id.String(), "purge_cancelled")
}

// certifiedShown is how many items the page lists; the file has them all.
const certifiedShown = 200

type certificatePage struct {
	lifecycle.Certificate
	// More is how many items the page leaves out.
	More  int
	Names names
}

// Shown are the items that the page lists.
func (p certificatePage) Shown() []lifecycle.CertifiedItem { return p.Items[:len(p.Items)-p.More] }

// Bytes is how large all that went was.
func (p certificatePage) Bytes() (sum int64) {
	for _, i := range p.Items {
		sum += i.Bytes
	}
	return sum
}

// certificate shows a certificate to people. Programs, and `earmark verify`,
// read the signed document itself.
func (c *Console) certificate(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	ctx := v.Request.Context()
	signed, err := c.Lifecycle.Certificate(ctx, v.actor, id)
	if err != nil {
		return err
	}
	var document struct {
		Document lifecycle.Certificate `json:"document"`
	}
	if err := json.Unmarshal(signed, &document); err != nil {
		return fmt.Errorf("read a certificate: %w", err)
	}
	p := certificatePage{Certificate: document.Document}
	if len(p.Items) > certifiedShown {
		p.More = len(p.Items) - certifiedShown
	}
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("certificate", "certificate.title", p)
}

func (c *Console) certificateFile(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	signed, err := c.Lifecycle.Certificate(v.Request.Context(), v.actor, id)
	if err != nil {
		return err
	}
	v.Header("Content-Disposition", `attachment; filename="purge-`+id.String()+`.json"`)
	v.Data(http.StatusOK, "application/json", signed)
	return nil
}
