package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/invalid"
	"earmark/internal/quality"
)

// searchPage is a list of interactions with the form that it came from.
type searchPage struct {
	Form    form
	Results []archive.Interaction
	// Next and First are addresses, empty where there is no such page.
	Next, First string
	// Narrowed says that the form asks for something.
	Narrowed   bool
	Channels   []string
	Directions []string
	States     []archive.State
}

func (c *Console) searchInteractions(v *visit) error {
	sent := v.Request.URL.Query()
	p := searchPage{
		Form: form{Values: sent}, Channels: archive.Channels, Directions: archive.Directions, States: archive.States,
		Narrowed: slices.ContainsFunc(queryFields, func(name string) bool { return sent.Get(name) != "" }),
	}
	status := http.StatusOK
	query, err := readQuery(sent.Get)
	if err == nil {
		query.Cursor = sent.Get("cursor")
		var found archive.Page[archive.Interaction]
		found, err = c.Archive.Search(v.Request.Context(), v.actor, query)
		p.Results = found.Items
		p.Next = pageAddress(v, found.NextCursor)
	}
	if err != nil {
		if status, err = p.Form.refuse(err); err != nil {
			return err
		}
	}
	if query.Cursor != "" {
		p.First = pageAddress(v, " ")
	}
	return v.render(status, "interactions", "interactions.title", p)
}

// pageAddress is this page's own address with another cursor: a space means
// the first page, and none that there is no page.
func pageAddress(v *visit, cursor string) string {
	if cursor == "" {
		return ""
	}
	q := v.Request.URL.Query()
	q.Del("said")
	q.Set("cursor", strings.TrimSpace(cursor))
	if q.Get("cursor") == "" {
		q.Del("cursor")
	}
	return (&url.URL{Path: v.Request.URL.Path, RawQuery: q.Encode()}).String()
}

// queryFields are the form's fields of a search.
var queryFields = []string{
	"q", "customer", "agent", "queue", "channel", "direction", "from", "to", "state",
	"disposition", "tag", "source", "min_duration", "max_duration",
}

// readQuery reads a search from a form. Days are those of the pages' place, and
// the last one is part of the search.
func readQuery(get func(string) string) (archive.Query, error) {
	field := func(name string) string { return strings.TrimSpace(get(name)) }
	wrong := &invalid.Error{}
	day := func(name string, days int) *time.Time {
		if field(name) == "" {
			return nil
		}
		t, err := time.ParseInLocation(time.DateOnly, field(name), place)
		if err != nil {
			wrong.Add("query."+name, "a day")
			return nil
		}
		t = t.AddDate(0, 0, days)
		return &t
	}
	seconds := func(name string) *float64 {
		if field(name) == "" {
			return nil
		}
		n, err := strconv.ParseFloat(strings.Replace(field(name), ",", ".", 1), 64)
		if err != nil {
			wrong.Add("query."+name, "a number of seconds")
			return nil
		}
		return &n
	}
	q := archive.Query{
		Text: field("q"), Customer: field("customer"), Agent: field("agent"), Queue: field("queue"),
		Channel: field("channel"), Direction: field("direction"), State: archive.State(field("state")),
		Disposition: field("disposition"), Tag: field("tag"), Source: field("source"),
		From: day("from", 0), To: day("to", 1),
		MinDuration: seconds("min_duration"), MaxDuration: seconds("max_duration"),
	}
	return q, wrong.Err()
}

// interactionPage is one interaction with all that stands beside it.
type interactionPage struct {
	archive.Interaction
	// Purposes for which the actor may open it; Purpose is the one chosen.
	Choices []access.Purpose
	Purpose access.Purpose
	// Suggested is the purpose that is chosen beforehand.
	Suggested access.Purpose
	// Refused is the key of why it does not open for the purpose, Closed of why
	// it opens to nobody.
	Refused, Closed string
	// Listening says that the recordings are to be heard, Text what was read.
	Listening bool
	Text      *archive.Text
	Nonce     string
	// Scorecard is the form of the actor's own assignment.
	Scorecard *scorecard
	// Evaluations are what may be seen of what others scored.
	Evaluations []quality.Evaluation
	Names       names
	Now         time.Time
}

func (c *Console) interaction(v *visit) error {
	p, err := c.openInteraction(v)
	if err != nil {
		return err
	}
	return v.show("interaction", "interaction.title", p)
}

// closed is why an interaction in a state opens to nobody, below "error.".
var closed = map[archive.State]string{
	archive.Quarantined: "consent_missing", archive.Restricted: "restricted",
	archive.Purging: "erased", archive.Erased: "erased",
}

// openInteraction gathers the page of the interaction in the path.
func (c *Console) openInteraction(v *visit) (*interactionPage, error) {
	id, err := v.id()
	if err != nil {
		return nil, err
	}
	ctx := v.Request.Context()
	i, err := c.Archive.Get(ctx, v.actor, id)
	if err != nil {
		return nil, err
	}
	p := &interactionPage{Interaction: i, Now: v.now()}
	p.Closed = closed[i.State]
	if p.Closed == "" && (v.may(access.Hear) || v.may(access.HearOwn)) {
		p.Choices = v.actor.Role.Purposes()
	}
	if err := c.open(v, p); err != nil {
		return nil, err
	}
	if p.Scorecard, err = c.scorecardOf(v, i.ID); err != nil {
		return nil, err
	}
	p.Suggested = p.Purpose
	if p.Suggested == "" && p.Scorecard != nil {
		p.Suggested = access.QualityAssurance
	}
	if p.Evaluations, err = c.evaluationsOf(v, i.ID); err != nil {
		return nil, err
	}
	p.Names, err = c.names(v)
	return p, err
}

// open opens the interaction for the purpose that was chosen, if one was. Sound
// is fetched by the player, which names the purpose again.
func (c *Console) open(v *visit, p *interactionPage) error {
	p.Purpose = access.Purpose(v.Query("purpose"))
	if p.Purpose == "" || p.Closed != "" {
		return nil
	}
	if v.Query("open") == "text" {
		text, err := c.Archive.Read(v.Request.Context(), v.actor, p.ID, p.Purpose)
		if err != nil {
			return p.refuse(err)
		}
		p.Text = &text
		return nil
	}
	if !slices.Contains(p.Choices, p.Purpose) {
		return p.refuse(access.ErrPurposeNotPermitted)
	}
	p.Listening = true
	v.allowStyles()
	p.Nonce = v.nonce
	return nil
}

// refuse says on the page why it does not open; other errors are returned.
func (p *interactionPage) refuse(err error) error {
	key, status, known := refusal(err)
	if !known || status != http.StatusForbidden {
		return err
	}
	p.Refused = key
	return nil
}

// evaluationsOf are what the actor may see of how the interaction was scored.
func (c *Console) evaluationsOf(v *visit, id uuid.UUID) ([]quality.Evaluation, error) {
	page, err := c.Quality.Evaluations(v.Request.Context(), v.actor, quality.EvaluationQuery{InteractionID: &id})
	if errors.Is(err, access.ErrForbidden) {
		return nil, nil
	}
	return page.Items, err
}
