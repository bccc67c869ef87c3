package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates, by language and name.
type pages map[*locale]map[string]*template.Template

// readPages parses each page together with the frame and the parts that pages
// share, once for each language.
func readPages(a assets) (pages, error) {
	all := pages{}
	for _, l := range locales {
		shared, err := template.New("").Funcs(functions(l, a)).ParseFS(templateFiles, "templates/frame.html", "templates/parts/*.html")
		if err != nil {
			return nil, fmt.Errorf("read templates: %w", err)
		}
		all[l] = map[string]*template.Template{}
		files, err := fs.Glob(templateFiles, "templates/pages/*.html")
		if err != nil {
			return nil, fmt.Errorf("list templates: %w", err)
		}
		for _, file := range files {
			page, err := template.Must(shared.Clone()).ParseFS(templateFiles, file)
			if err != nil {
				return nil, fmt.Errorf("read templates: %w", err)
			}
			all[l][strings.TrimSuffix(path.Base(file), ".html")] = page
		}
	}
	return all, nil
}

// functions are what templates of one language can call.
func functions(l *locale, a assets) template.FuncMap {
	return template.FuncMap{
		"t":        l.say,
		"knows":    l.knows,
		"wrong":    l.wrong,
		"locale":   func() *locale { return l },
		"locales":  func() []*locale { return locales },
		"number":   func(n any) string { return l.text(n) },
		"percent":  l.percent,
		"bytes":    l.bytes,
		"moment":   l.moment,
		"day":      l.day,
		"instant":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":    clock,
		"short":    short,
		"asset":    a.address,
		"dict":     dict,
		"list":     func(items ...any) []any { return items },
		"lines":    func(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") },
		"deref":    deref,
		"purposes": func() []access.Purpose { return access.Purposes },
	}
}

// percent writes a score; what has none is a dash.
func (l *locale) percent(score *float64) string {
	if score == nil {
		return "–"
	}
	return strings.TrimSuffix(l.decimal(*score, 1), l.mark+"0") + " %"
}

// short is enough of an id to tell it from its neighbours: UUIDv7s begin with
// the time, which neighbours share.
func short(id uuid.UUID) string {
	text := id.String()
	return text[len(text)-8:]
}

// dict hands a part several values by name.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d arguments", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: argument %d is no name", i)
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// deref is a number that may not be there, 0 then.
func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// frame is what every page is shown with.
type frame struct {
	// Title is the page's.
	Title string
	Actor access.Actor
	Known bool
	// Nav are the places that the actor may go to.
	Nav []destination
	// Here is the address to come back to.
	Here string
	// Said is the key of what was just done, if anything.
	Said string
	// Nonce lets the player's own styles through, where there is a player.
	Nonce string
	// Refresh asks browsers without script to load the page again after so
	// many seconds; 0: not.
	Refresh int
	Data    any
}

// May says whether whoever looks at the page may do the action.
func (f frame) May(action access.Action) bool { return f.Known && f.Actor.May(action) == nil }

// Mine says whether the person named is who looks at the page.
func (f frame) Mine(person string) bool { return f.Known && f.Actor.PersonString() == person }

// show answers with a page whose title is a key of the catalogue.
func (v *visit) show(name, title string, data any) error {
	return v.render(http.StatusOK, name, title, data)
}

func (v *visit) render(status int, name, title string, data any) error {
	return v.renderFrame(status, name, frame{Title: v.lang.say(title), Data: data})
}

func (v *visit) renderFrame(status int, name string, f frame) error {
	f.Actor, f.Known, f.Nonce = v.actor, v.known, v.nonce
	f.Nav = v.nav()
	f.Here = v.here()
	if said := v.Query("said"); v.lang.knows("said." + said) {
		f.Said = "said." + said
	}
	page, ok := v.console.pages[v.lang][name]
	if !ok {
		return fmt.Errorf("there is no page %s", name)
	}
	return v.write(status, page, "frame", f)
}

// part answers with a part of a page alone, for a script to put in its place.
func (v *visit) part(page, name string, data any) error {
	t, ok := v.console.pages[v.lang][page]
	if !ok {
		return fmt.Errorf("there is no page %s", page)
	}
	return v.write(http.StatusOK, t, name, frame{Actor: v.actor, Known: v.known, Data: data})
}

// write sends nothing before everything is there: half a page is no page.
func (v *visit) write(status int, t *template.Template, name string, data any) error {
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, name, data); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	v.Header("Content-Language", v.lang.Tag)
	v.Header("Vary", "Accept-Language, Cookie, HX-Request")
	v.Data(status, "text/html; charset=utf-8", page.Bytes())
	return nil
}

// here is the address of this page without what was said last; after a form
// was refused, of the page that it stands on.
func (v *visit) here() string {
	u := *v.Request.URL
	if v.Request.Method != http.MethodGet {
		return "/" + strings.SplitN(strings.TrimPrefix(u.Path, "/"), "/", 2)[0]
	}
	q := u.Query()
	q.Del("said")
	return (&url.URL{Path: u.Path, RawQuery: q.Encode()}).String()
}

// destination is a place in the navigation. Key is below "nav.".
type destination struct {
	Path, Key, Icon string
	Current         bool
}

// destinations are all, each with an action of which one opens it.
var destinations = []struct {
	destination
	needs []access.Action
}{
	{destination{Path: "/", Key: "home", Icon: "home"}, nil},
	{destination{Path: "/interactions", Key: "interactions", Icon: "wave"}, []access.Action{access.ReadInteractions}},
	{destination{Path: "/assignments", Key: "assignments", Icon: "check"}, []access.Action{access.ReadQuality}},
	{destination{Path: "/evaluations", Key: "evaluations", Icon: "star"}, []access.Action{access.ReadQuality, access.ReadOwnEvaluations}},
	{destination{Path: "/policies", Key: "policies", Icon: "clock"}, []access.Action{access.ReadLifecycle}},
	{destination{Path: "/holds", Key: "holds", Icon: "lock"}, []access.Action{access.ReadLifecycle}},
	{destination{Path: "/purges", Key: "purges", Icon: "bin"}, []access.Action{access.ReadLifecycle}},
	{destination{Path: "/people", Key: "people", Icon: "people"}, []access.Action{access.ManageAccess}},
}

func (v *visit) nav() []destination {
	if !v.known || v.actor.MustChangePassword {
		return nil
	}
	var open []destination
	for _, d := range destinations {
		may := len(d.needs) == 0
		for _, action := range d.needs {
			may = may || v.may(action)
		}
		if !may {
			continue
		}
		to := d.destination
		to.Current = v.Request.URL.Path == to.Path || to.Path != "/" && strings.HasPrefix(v.Request.URL.Path, to.Path+"/")
		open = append(open, to)
	}
	return open
}
