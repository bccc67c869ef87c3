package console

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

// Each page is tried as each role: it opens for those who may, is refused in
// words to the others, and nobody ever sees an error of ours.
func TestEveryPageAsEveryRole(t *testing.T) {
	t.Parallel()
	h := open(t)
	call := h.call(t, "c1", "3201", 2)
	supervisor := h.person(t, "boss", access.Supervisor)
	officer := h.person(t, "officer", access.RecordsOfficer)
	h.person(t, "lan", access.Reviewer)
	h.draw(t, supervisor)
	hold, err := h.Lifecycle.PlaceHold(t.Context(), officer, lifecycle.NewHold{Matter: "m", Reason: "r", Interactions: []uuid.UUID{call.ID}})
	must(t, err)
	purge, err := h.Lifecycle.Preview(t.Context(), officer, lifecycle.NewPurge{Reason: "r", Filter: &archive.Query{}, Override: true})
	must(t, err)
	days := 30
	_, err = h.Lifecycle.ProposePolicy(t.Context(), officer, lifecycle.NewPolicy{Name: "thirty", KeepDays: &days})
	must(t, err)

	pages := []struct {
		path  string
		needs []access.Action
	}{
		{"/", nil},
		{"/password", nil},
		{"/interactions", []access.Action{access.ReadInteractions}},
		{"/interactions?customer=0901234567&from=2026-01-01&to=2026-12-31&channel=voice", []access.Action{access.ReadInteractions}},
		{"/interactions/" + call.ID.String(), []access.Action{access.ReadInteractions}},
		{"/assignments", []access.Action{access.ReadQuality}},
		{"/evaluations", []access.Action{access.ReadQuality, access.ReadOwnEvaluations}},
		{"/purges", []access.Action{access.ReadLifecycle}},
		{"/purges/new", []access.Action{access.RequestPurges}},
		{"/purges/" + purge.ID.String(), []access.Action{access.ReadLifecycle}},
		{"/holds", []access.Action{access.ReadLifecycle}},
		{"/holds/new", []access.Action{access.PlaceHolds}},
		{"/holds/new?interaction=" + call.ID.String(), []access.Action{access.PlaceHolds}},
		{"/holds/" + hold.ID.String(), []access.Action{access.ReadLifecycle}},
		{"/policies", []access.Action{access.ReadLifecycle}},
		{"/people", []access.Action{access.ManageAccess}},
	}
	for _, role := range access.Roles {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			who := h.person(t, string(role), role)
			b := h.signedIn(t, string(role))
			for _, p := range pages {
				may := len(p.needs) == 0
				for _, action := range p.needs {
					may = may || who.May(action) == nil
				}
				status, _, page := b.get(p.path)
				want := http.StatusOK
				if !may {
					want = http.StatusForbidden
				}
				// An uploader sees its own source's, and no page says what else there is.
				if role == access.Uploader && strings.HasPrefix(p.path, "/interactions/") && status == http.StatusNotFound {
					continue
				}
				if status != want {
					t.Errorf("%s: %d, want %d", p.path, status, want)
				}
				sound(t, p.path, page)
			}
		})
	}
}

var (
	rawKey    = regexp.MustCompile(`>\s*(?:[a-z_]+\.)+[a-z_]+\s*<`)
	unwelcome = regexp.MustCompile(`<script(?:>| [^>]*>[^<])|<style|\sstyle="|\son[a-z]+="|%!|&lt;nil&gt;|&lt;no value&gt;`)
)

// sound looks for what no page may hold: keys that no catalogue has, inline
// script or style, and values that were never written for people.
func sound(t *testing.T, path, page string) {
	t.Helper()
	if m := unwelcome.FindString(page); m != "" {
		t.Errorf("%s holds %q", path, m)
	}
	if m := rawKey.FindString(page); m != "" {
		t.Errorf("%s shows the key %q", path, m)
	}
	if strings.Count(page, "<h1") != 1 {
		t.Errorf("%s has %d headings of the first level", path, strings.Count(page, "<h1"))
	}
}

func TestSigningInAndOut(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, oneTime, err := h.Access.CreateUser(t.Context(), access.System("test"), access.NewUser{Login: "lan", Name: "Lan", Role: access.Reviewer})
	must(t, err)
	b := h.browser(t)

	if _, address, _ := b.get("/purges?state=done"); address != "/signin?back=%2Fpurges%3Fstate%3Ddone" {
		t.Errorf("a stranger came to %s", address)
	}
	status, _, page := b.post("/signin", url.Values{"login": {"lan"}, "password": {"wrong"}})
	if status != http.StatusUnauthorized || !strings.Contains(page, english.say("error.wrong_password")) || !strings.Contains(page, `value="lan"`) {
		t.Errorf("a wrong password: %d", status)
	}
	if _, address, _ := b.post("/signin", url.Values{"login": {"lan"}, "password": {oneTime}}); address != "/password" {
		t.Errorf("a one-time password led to %s", address)
	}
	if _, address, _ := b.get("/interactions"); address != "/password" {
		t.Errorf("before the password was changed, %s opened", address)
	}
	status, _, page = b.post("/password", url.Values{"old_password": {oneTime}, "password": {password}, "again": {password + "x"}})
	if status != http.StatusUnprocessableEntity || !strings.Contains(page, english.say("field.again")) || strings.Contains(page, password) {
		t.Errorf("two different passwords: %d", status)
	}
	if _, address, _ := b.post("/password", url.Values{"old_password": {oneTime}, "password": {password}, "again": {password}}); !strings.HasPrefix(address, "/signin") {
		t.Errorf("a new password led to %s", address)
	}
	if _, address, _ := b.post("/signin", url.Values{"login": {"lan"}, "password": {password}, "back": {"//evil.example/"}}); address != "/" {
		t.Errorf("signing in led to %s", address)
	}
	if _, address, _ := b.post("/signout", url.Values{}); !strings.HasPrefix(address, "/signin") {
		t.Errorf("signing out led to %s", address)
	}
	if _, address, _ := b.get("/"); !strings.HasPrefix(address, "/signin") {
		t.Errorf("after signing out, %s opened", address)
	}
}

func TestTheSessionCookie(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.person(t, "lan", access.Reviewer)
	for _, secure := range []bool{false, true} {
		form := url.Values{"login": {"lan"}, "password": {password}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/signin", strings.NewReader(form.Encode()))
		must(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if secure {
			r.Header.Set("X-Forwarded-Proto", "https")
		}
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		answer, err := client.Do(r)
		must(t, err)
		must(t, answer.Body.Close())
		if answer.StatusCode != http.StatusSeeOther || len(answer.Cookies()) != 1 {
			t.Fatalf("signing in: %d with %d cookies", answer.StatusCode, len(answer.Cookies()))
		}
		c := answer.Cookies()[0]
		if c.Name != SessionCookie || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Secure != secure {
			t.Errorf("the cookie is %v", c)
		}
	}
}

// A form that another site makes a signed-in browser send is refused.
func TestOtherSitesCannotPost(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.person(t, "admin", access.Admin)
	b := h.signedIn(t, "admin")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/people/users", strings.NewReader("login=eve&name=Eve&role=admin"))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	answer, err := b.Do(r)
	must(t, err)
	must(t, answer.Body.Close())
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form: %d", answer.StatusCode)
	}
}

func TestPagesThatAreNotThere(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.person(t, "aud", access.Auditor)
	b := h.signedIn(t, "aud")
	for _, path := range []string{"/nowhere", "/interactions/" + uuid.NewString(), "/purges/not-an-id", "/assets/none.css", "/evaluations/" + uuid.NewString()} {
		status, _, page := b.get(path)
		if status != http.StatusNotFound || !strings.Contains(page, english.say("error.not_found")) {
			t.Errorf("%s: %d", path, status)
		}
	}
	// Programs get a problem document.
	if status, _, page := b.get("/v1/nowhere"); status != http.StatusNotFound || !strings.Contains(page, `"code"`) {
		t.Errorf("/v1/nowhere: %d", status)
	}
}

// Invariant 9, two people, as the pages show it; and in the end what is gone
// is told as gone.
func TestAPurgeByTwoPeople(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.purger(t)
	call := h.call(t, "c1", "3201", 2)
	h.person(t, "first", access.RecordsOfficer)
	h.person(t, "second", access.RecordsOfficer)
	first, second := h.signedIn(t, "first"), h.signedIn(t, "second")

	if status, _, page := first.post("/purges", url.Values{"reason": {"clean-up"}}); status != http.StatusUnprocessableEntity || !strings.Contains(page, english.say("field.filter")) {
		t.Errorf("a purge of everything: %d", status)
	}
	form := url.Values{"reason": {"clean-up"}, "queue": {"billing"}}
	status, _, page := first.post("/purges", form)
	if status != http.StatusConflict || !strings.Contains(page, english.say("guard.override")) || !strings.Contains(page, `value="billing"`) {
		t.Errorf("a purge of what is new: %d", status)
	}
	form.Set("override", "yes")
	_, address, page := first.post("/purges", form)
	address, _, _ = strings.Cut(address, "?")
	if !strings.Contains(page, english.say("purge.same")) || strings.Contains(page, "/approve") {
		t.Error("the page offers approval to who asked for it")
	}
	if status, _, page := first.post(address+"/approve", url.Values{"override": {"yes"}}); status != http.StatusForbidden || !strings.Contains(page, english.say("error.same_person")) {
		t.Errorf("approving one's own: %d", status)
	}
	if _, _, page := second.get(address); !strings.Contains(page, "Người first") || !strings.Contains(page, "/approve") {
		t.Error("the second person is not shown who asked, or nothing to approve")
	}
	if status, _, _ := second.post(address+"/approve", url.Values{}); status != http.StatusConflict {
		t.Errorf("approving without saying it twice: %d", status)
	}
	if status, _, _ := second.post(address+"/approve", url.Values{"override": {"yes"}}); status != http.StatusOK {
		t.Errorf("approving: %d", status)
	}
	within(t, func() bool {
		_, _, page := second.get(address)
		return strings.Contains(page, english.say("certificate.show"))
	})
	if _, _, page := second.get(address + "/certificate"); !strings.Contains(page, call.ID.String()) {
		t.Error("the certificate does not name what is gone")
	}
	if status, _, file := second.get(address + "/certificate.json"); status != http.StatusOK || !strings.Contains(file, lifecycle.CertificateType) {
		t.Errorf("the certificate's file: %d", status)
	}
	h.person(t, "lan", access.Reviewer)
	for who, want := range map[string]int{"lan": http.StatusGone, "second": http.StatusOK} {
		status, _, page := h.signedIn(t, who).get("/interactions/" + call.ID.String())
		if status != want || !strings.Contains(page, english.say("error.erased")) || strings.Contains(page, "0901234567") {
			t.Errorf("what is gone, to %s: %d", who, status)
		}
	}
}

// Invariant 7, no listening without a purpose, as the pages show it.
func TestNothingOpensWithoutAPurpose(t *testing.T) {
	t.Parallel()
	h := open(t)
	call := h.call(t, "c1", "3201", 2)
	h.person(t, "lan", access.Reviewer)
	b := h.signedIn(t, "lan")
	path := "/interactions/" + call.ID.String()
	const said = "hóa đơn tháng mười"
	if _, _, page := b.get(path); strings.Contains(page, "<audio") || strings.Contains(page, said) || strings.Contains(page, "purpose.legal") {
		t.Error("the page opens before a purpose is chosen")
	}
	if _, _, page := b.get(path + "?purpose=quality_assurance&open=listen"); !strings.Contains(page, "/audio?purpose=quality_assurance&amp;listening=true") || strings.Contains(page, said) {
		t.Error("the page does not play for a purpose, or shows what was not asked for")
	}
	if _, _, page := b.get(path + "?purpose=quality_assurance&open=text"); !strings.Contains(page, said) || strings.Contains(page, "<audio") {
		t.Error("the page does not show the text for a purpose")
	}
	for _, open := range []string{"listen", "text"} {
		if _, _, page := b.get(path + "?purpose=legal&open=" + open); strings.Contains(page, "<audio") || strings.Contains(page, said) || !strings.Contains(page, english.say("error.purpose_not_permitted")) {
			t.Errorf("%s opens for a purpose that is not the role's", open)
		}
	}
	audio := "/v1" + path + "/recordings/audio/audio"
	if status, _, _ := b.get(audio + "?purpose=quality_assurance"); status != http.StatusOK {
		t.Errorf("the session does not open the audio: %d", status)
	}
	if status, _, _ := b.get(audio); status != http.StatusForbidden {
		t.Errorf("the audio without a purpose: %d", status)
	}
}

func TestAnEvaluationKeepsWhatWasAnswered(t *testing.T) {
	t.Parallel()
	h := open(t)
	call := h.call(t, "c1", "3201", 2)
	boss := h.person(t, "boss", access.Supervisor)
	lan := h.person(t, "lan", access.Reviewer)
	h.person(t, "agent", access.Agent)
	h.draw(t, boss)
	page, err := h.Quality.Assignments(t.Context(), lan, quality.AssignmentQuery{})
	must(t, err)
	if len(page.Items) != 1 {
		t.Fatalf("%d assignments", len(page.Items))
	}
	a := page.Items[0]
	f, err := h.Quality.Form(t.Context(), lan, a.FormID, a.FormVersion)
	must(t, err)
	b := h.signedIn(t, "lan")

	some := url.Values{"a.greeting": {"partial"}, "c.greeting": {"<nhanh quá>"}, "comment": {"tạm được"}}
	status, _, html := b.post("/assignments/"+a.ID.String()+"?purpose=training&open=listen", some)
	if status != http.StatusUnprocessableEntity || !strings.Contains(html, english.say("field.answers")) {
		t.Errorf("a form half filled in: %d", status)
	}
	for _, kept := range []string{"&lt;nhanh quá&gt;", "tạm được", `value="partial" required checked`, "purpose=training"} {
		if !strings.Contains(html, kept) {
			t.Errorf("%q is lost", kept)
		}
	}
	if _, address, _ := b.post("/assignments/"+a.ID.String(), best(f.Definition)); address != "/assignments?said=submitted&state=assigned" {
		t.Fatalf("submitting led to %s", address)
	}
	_, _, html = b.get("/interactions/" + call.ID.String())
	if !strings.Contains(html, english.say("scorecard.resubmit")) || !strings.Contains(html, "100 %") {
		t.Error("what was submitted cannot be mended before its release")
	}

	agent, supervisor := h.signedIn(t, "agent"), h.signedIn(t, "boss")
	if _, _, html := agent.get("/evaluations"); !strings.Contains(html, english.say("evaluations.empty")) {
		t.Error("the agent sees what is not released")
	}
	evaluations, err := h.Quality.Evaluations(t.Context(), boss, quality.EvaluationQuery{})
	must(t, err)
	path := "/evaluations/" + evaluations.Items[0].ID.String()
	if status, _, html := supervisor.post(path+"/release", url.Values{}); status != http.StatusOK || !strings.Contains(html, english.say("said.released")) {
		t.Errorf("releasing: %d", status)
	}
	if status, _, html := agent.get(path); status != http.StatusOK || !strings.Contains(html, "100 %") {
		t.Errorf("the agent's own evaluation: %d", status)
	}
}

// best answers every question as well as can be.
func best(d quality.Definition) url.Values {
	form := url.Values{}
	for _, s := range d.Sections {
		for _, q := range s.Questions {
			name := "a." + q.ID
			switch q.Kind {
			case quality.SingleSelect:
				top := q.Options[0]
				for _, o := range q.Options {
					if o.Score > top.Score {
						top = o
					}
				}
				form.Set(name, top.ID)
			case quality.MultiSelect:
				for _, o := range q.Options {
					form.Add(name, o.ID)
				}
			case quality.Numeric:
				form.Set(name, vietnamese.decimal(*q.Max, -1))
			}
		}
	}
	return form
}

func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.person(t, "admin", access.Admin)
	b := h.signedIn(t, "admin")
	secret := regexp.MustCompile(`<code class="secret">([^<]+)</code>`)
	_, _, page := b.post("/people/users", url.Values{"login": {"minh"}, "name": {"Minh"}, "role": {"supervisor"}})
	m := secret.FindStringSubmatch(page)
	if m == nil {
		t.Fatal("the one-time password is not shown")
	}
	if _, _, _, err := h.Access.SignIn(t.Context(), "minh", m[1]); err != nil {
		t.Errorf("the one-time password does not open: %v", err)
	}
	if _, _, page := b.get("/people"); strings.Contains(page, m[1]) || !strings.Contains(page, "minh") {
		t.Error("the one-time password is shown again, or the user is not listed")
	}
	status, _, page := b.post("/people/users", url.Values{"login": {"minh"}, "name": {"Minh"}, "role": {"supervisor"}})
	if status != http.StatusUnprocessableEntity || !strings.Contains(page, english.say("field.login")) {
		t.Errorf("a login that is taken: %d", status)
	}
	_, _, page = b.post("/people/keys", url.Values{"name": {"pbx"}, "role": {"uploader"}, "source": {"pbx"}, "basis.basis": {"consent"}})
	if m = secret.FindStringSubmatch(page); m == nil {
		t.Fatal("the key is not shown")
	}
	if _, err := h.Access.AuthenticateKey(t.Context(), m[1]); err != nil {
		t.Errorf("the key does not open: %v", err)
	}
}

func TestStaticFilesAreKept(t *testing.T) {
	t.Parallel()
	h := open(t)
	for path, want := range map[string]string{
		h.assets.address("base.css"): "public, max-age=31536000, immutable",
		"/assets/base.css":           "no-cache",
		"/assets/base.css?v=other":   "no-cache",
	} {
		answer, err := http.Get(h.url + path)
		must(t, err)
		must(t, answer.Body.Close())
		if got := answer.Header.Get("Cache-Control"); answer.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s: %d, kept %q, want %q", path, answer.StatusCode, got, want)
		}
	}
}

// What we did not foresee is told without its inside, and with a number to ask by.
func TestAnUnknownErrorIsOpaque(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.Log = slog.New(slog.DiscardHandler)
	e := gin.New()
	e.GET("/broken", func(g *gin.Context) {
		g.Header("X-Request-Id", "the-request")
		h.visitor(func(*visit) error { return errors.New("secret inside") })(g)
	})
	answer := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/broken", nil)
	r.Header.Set("Accept-Language", "en")
	e.ServeHTTP(answer, r)
	page := answer.Body.String()
	if answer.Code != http.StatusInternalServerError || strings.Contains(page, "secret inside") ||
		!strings.Contains(page, english.say("error.internal")) || !strings.Contains(page, "the-request") {
		t.Errorf("%d: %s", answer.Code, page)
	}
}
