package console

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"earmark/internal/access"
)

// TestInABrowser plays people's stories in Debian's Chromium; they are told in
// web/test.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	for _, needed := range []string{"web/node_modules/playwright-core", "assets/dist/console.js"} {
		if _, err := os.Stat(needed); err != nil {
			t.Fatalf("%s is missing: run `make test`, which builds the front end first", needed)
		}
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: run `make test`, which installs it")
	}
	h := open(t)
	h.purger(t)
	boss := h.person(t, "boss", access.Supervisor)
	h.person(t, "first", access.RecordsOfficer)
	h.person(t, "second", access.PrivacyOfficer)
	h.person(t, "admin", access.Admin)
	_, oneTime, err := h.Access.CreateUser(t.Context(), access.System("test"), access.NewUser{Login: "lan", Name: "Lan", Role: access.Reviewer})
	must(t, err)
	reviewed := h.call(t, "c1", "3201", 30)
	h.draw(t, boss)
	h.call(t, "c2", "3202", 3)

	setting, err := json.Marshal(map[string]any{
		"url": h.url, "chromium": chromium, "password": password, "oneTime": oneTime, "reviewed": reviewed.ID,
	})
	must(t, err)
	stories := exec.CommandContext(t.Context(), "node", "--test", "--test-reporter=spec", "web/test/console.test.mjs")
	stories.Env = append(os.Environ(), "EARMARK_CONSOLE="+string(setting))
	output, err := stories.CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Fatalf("the stories do not end well: %v", err)
	}
}
