package access_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"earmark/internal/access"
)

var update = flag.Bool("update", false, "write docs/roles.md anew")

const rolesPage = "../../docs/roles.md"

// TestRolesAreDocumented prints who may do what and why they may listen, and
// compares it with the page that people read.
func TestRolesAreDocumented(t *testing.T) {
	t.Parallel()
	page := `# Roles

Who may do what, and for which purposes they may listen and read. One person or
API key has one role. This page is written by
` + "`go test ./internal/access -run TestRolesAreDocumented -update`" + ` from the table in
` + "`internal/access/roles.go`" + `, and a test fails where they differ.

## Actions

` + table("action", access.Actions, func(r access.Role, a access.Action) bool {
		return access.Actor{Role: r}.May(a) == nil
	}) + `
## Purposes

A role that may hear, or hear its own calls, may do so for these purposes.

` + table("purpose", access.Purposes, func(r access.Role, p access.Purpose) bool {
		actor := access.Actor{Role: r}
		return actor.MayFor(access.Hear, p) == nil || actor.MayFor(access.HearOwn, p) == nil
	})
	t.Log("\n" + page)
	if *update {
		if err := os.WriteFile(rolesPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	documented, err := os.ReadFile(rolesPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(documented), page); diff != "" {
		t.Errorf("docs/roles.md is not what the code says (run with -update):\n%s", diff)
	}
}

func table[T ~string](heading string, lines []T, may func(access.Role, T) bool) string {
	width := len(heading)
	for _, line := range lines {
		width = max(width, len(line)+2)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %-*s |", width, heading)
	for _, r := range access.Roles {
		fmt.Fprintf(&b, " %s |", r)
	}
	fmt.Fprintf(&b, "\n| %s |", strings.Repeat("-", width))
	for _, r := range access.Roles {
		fmt.Fprintf(&b, ":%s:|", strings.Repeat("-", len(r)))
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "\n| %-*s |", width, "`"+string(line)+"`")
		for _, r := range access.Roles {
			mark := ""
			if may(r, line) {
				mark = "x"
			}
			fmt.Fprintf(&b, " %-*s |", len(r), mark)
		}
	}
	return b.String() + "\n"
}

// Invariant 7: no listening without a purpose that the role may use.
func TestNobodyHearsWithoutAPermittedPurpose(t *testing.T) {
	t.Parallel()
	for _, r := range access.Roles {
		actor := access.Actor{Role: r}
		for _, action := range []access.Action{access.Hear, access.HearOwn} {
			if actor.May(action) != nil {
				continue
			}
			if err := actor.MayFor(action, ""); !errors.Is(err, access.ErrPurposeRequired) {
				t.Errorf("%s without a purpose: %v", r, err)
			}
			if err := actor.MayFor(action, "curiosity"); !errors.Is(err, access.ErrPurposeNotPermitted) {
				t.Errorf("%s out of curiosity: %v", r, err)
			}
		}
	}
	if err := (access.Actor{Role: access.Admin}).MayFor(access.Hear, access.Legal); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("an administrator hears: %v", err)
	}
	if err := (access.Actor{Role: "nobody"}).May(access.ReadInteractions); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("an unknown role reads: %v", err)
	}
	if err := (access.Actor{}).May(access.ReadInteractions); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("the zero actor reads: %v", err)
	}
}

func TestEveryActionBelongsToARole(t *testing.T) {
	t.Parallel()
	for _, action := range access.Actions {
		someone := false
		for _, r := range access.Roles {
			someone = someone || access.Actor{Role: r}.May(action) == nil
		}
		if !someone {
			t.Errorf("nobody may do %s", action)
		}
	}
	for _, r := range access.Roles {
		for _, action := range r.Actions() {
			if !strings.Contains(fmt.Sprint(access.Actions), string(action)) {
				t.Errorf("%s may do %s, which is not in Actions", r, action)
			}
		}
	}
}
