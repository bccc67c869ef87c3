package console

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/media"
	"earmark/internal/quality"
)

func TestCataloguesSayTheSame(t *testing.T) {
	t.Parallel()
	holes := regexp.MustCompile(`\{\d\}`)
	for key, text := range vietnamese.words {
		other, ok := english.words[key]
		if !ok {
			t.Errorf("%s is not in English", key)
		}
		if strings.TrimSpace(text) == "" || strings.TrimSpace(other) == "" {
			t.Errorf("%s is empty", key)
		}
		a, b := holes.FindAllString(text, -1), holes.FindAllString(other, -1)
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			t.Errorf("%s takes %v in Vietnamese and %v in English", key, a, b)
		}
	}
	for key := range english.words {
		if !vietnamese.knows(key) {
			t.Errorf("%s is not in Vietnamese", key)
		}
	}
}

var (
	translated  = regexp.MustCompile(`\bt "([a-z0-9_.]+)"`)
	options     = regexp.MustCompile(`"(?:label|hint|empty|placeholder)" "([a-z0-9_.]+)"`)
	emptyStates = regexp.MustCompile(`template "empty" \(dict "icon" "[a-z]+" "key" "([a-z0-9_.]+)"\)`)
	titles      = regexp.MustCompile(`(?:v\.show\(|v\.render\([a-zA-Z.]+, |v\.render\()"[a-z_]+", "([a-z_.]*[a-z_])"`)
	said        = regexp.MustCompile(`v\.done\([^\n]*, "([a-z_]+)"\)`)
)

// usedKeys are the keys that templates and handlers name, and those that they
// put together from what the features know.
func usedKeys(t *testing.T) []string {
	t.Helper()
	var keys []string
	add := func(prefix string, names ...string) {
		for _, name := range names {
			keys = append(keys, prefix+name)
		}
	}
	err := fs.WalkDir(templateFiles, "templates", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := templateFiles.ReadFile(path)
		for _, pattern := range []*regexp.Regexp{translated, options} {
			for _, m := range pattern.FindAllSubmatch(text, -1) {
				add("", string(m[1]))
			}
		}
		for _, m := range emptyStates.FindAllSubmatch(text, -1) {
			add(string(m[1]), ".empty", ".empty.fix")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range titles.FindAllSubmatch(text, -1) {
			add("", string(m[1]))
		}
		for _, m := range said.FindAllSubmatch(text, -1) {
			add("said.", string(m[1]))
		}
	}
	for _, r := range refusals {
		add("error."+r.key, "", ".fix")
	}
	add("error.", "internal", "internal.fix", "invalid", "invalid.fix", "wrong_password", "wrong_password.fix")
	for _, d := range destinations {
		add("nav.", d.Key)
	}
	for _, r := range access.Roles {
		add("role.", string(r))
		add("home.lead.", string(r))
	}
	for _, p := range access.Purposes {
		add("purpose.", string(p))
	}
	for _, s := range archive.States {
		add("state.", string(s))
	}
	for _, s := range quality.AssignmentStates {
		add("state.", string(s))
	}
	for _, r := range quality.Reasons {
		add("reason.", string(r))
	}
	add("basis.", access.Bases...)
	add("channel.", archive.Channels...)
	add("direction.", archive.Directions...)
	add("search.", queryFields...)
	add("state.", purgeStates...)
	add("state.", holdStates...)
	add("state.", "proposed", "active", "retired", "disabled", "one_time", "revoked")
	add("state.recording.", "received", "ready", "flagged", "erased")
	add("flag.", media.FlagEmpty, media.FlagUnclosed, media.FlagUndecodable, media.FlagDamaged,
		media.FlagLyingHeader, media.FlagNoAudioStream, media.FlagVideo, media.FlagTooLong, archive.FlagMissing)
	add("hold.", "legal", "review", "disclosure")
	add("kind.", "chosen", "retention", "erasure")
	add("exempt.", "held_legal", "held_review", "held_disclosure", "already_gone", "other_purge")
	add("consent.", "granted", "refused", "withdrawn")
	add("stream.", string(quality.Random), string(quality.Targeted))
	add("fail.", string(quality.FailSection), string(quality.FailForm))
	add("once.", "password", "password.fix", "key", "key.fix")
	return keys
}

func TestEveryKeyIsInTheCatalogue(t *testing.T) {
	t.Parallel()
	used := usedKeys(t)
	if len(used) < 350 {
		t.Fatalf("only %d keys were found: the patterns do not match any more", len(used))
	}
	for _, key := range used {
		if !vietnamese.knows(key) {
			t.Errorf("%s is in no catalogue", key)
		}
	}
	known := map[string]bool{}
	for _, key := range used {
		known[key] = true
	}
	for key := range vietnamese.words {
		if !known[key] && !strings.HasPrefix(key, "field.") && key != "person.service" {
			t.Errorf("%s is said nowhere", key)
		}
	}
}

func TestNumbersAndTimes(t *testing.T) {
	t.Parallel()
	third := 200.0 / 3
	for _, c := range []struct{ got, want string }{
		{vietnamese.integer(1234567), "1.234.567"},
		{english.integer(1234567), "1,234,567"},
		{vietnamese.integer(-1000), "−1.000"},
		{vietnamese.integer(999), "999"},
		{vietnamese.decimal(1234.5, -1), "1.234,5"},
		{vietnamese.decimal(-0.5, 1), "−0,5"},
		{english.decimal(1234.5, 2), "1,234.50"},
		{vietnamese.bytes(1023), "1.023 B"},
		{vietnamese.bytes(1536), "1,5 KB"},
		{english.bytes(5 << 30), "5.0 GB"},
		{vietnamese.percent(&third), "66,7 %"},
		{vietnamese.percent(nil), "–"},
		{clock(59_600), "1:00"},
		{clock(3_723_000), "1:02:03"},
		// Half past five in the afternoon in London is past midnight in Vietnam.
		{vietnamese.moment(time.Date(2026, 1, 31, 17, 30, 0, 0, time.UTC)), "01/02/2026 00:30"},
		{english.say("purge.settled", 1000, 2000), "1,000 of 2,000 settled"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestLanguageOfAVisit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ accept, cookie, want string }{
		{"", "", "vi"},
		{"en-GB,en;q=0.9", "", "en"},
		{"fr,en;q=0.5,vi;q=0.3", "", "en"},
		{"fr", "", "vi"},
		{"vi,en;q=0.9", "en", "en"},
		{"en", "xx", "en"},
		{"\x00;;", "", "vi"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Language", c.accept)
		if c.cookie != "" {
			r.Header.Set("Cookie", languageCookie+"="+c.cookie)
		}
		if got := localeOf(r).Tag; got != c.want {
			t.Errorf("accepting %q with cookie %q: %s, want %s", c.accept, c.cookie, got, c.want)
		}
	}
}

func TestOwnPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/purges?state=done": "/purges?state=done", "": "/", "//evil.example": "/", "https://evil.example/": "/",
		`/\evil.example`: "/", "purges": "/", "/\t/evil.example": "/", "javascript:alert(1)": "/",
	} {
		if got := ownPath(path); got != want {
			t.Errorf("ownPath(%q) = %q, want %q", path, got, want)
		}
	}
}
