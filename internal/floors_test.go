// Package internal_test holds the house to its floors: what may use what.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors lists the packages from the ground up. A package uses those below its
// own floor, and none beside it; what stands on one line is one package with its
// parts. Ground is for everybody.
var floors = [][]string{
	{"internal/fault", "internal/invalid"},
	{"internal/ledger", "internal/media", "internal/vcon", "internal/seal", "internal/blob"},
	{"migrations", "internal/db"},
	{"internal/access", "internal/audit"},
	{"internal/consent"},
	{"internal/archive"},
	{"internal/lifecycle", "internal/quality", "internal/disclosure"},
	{"internal/api", "internal/console", "workers", "internal/standalone", "internal/bench", "internal/demo"},
	{"cmd"},
}

// beside lists what may be used from the same floor: the schema stands with the
// database, and reading the log is authorised like everything else.
var beside = map[string][]string{
	"internal/db":    {"migrations"},
	"internal/audit": {"internal/access"},
}

// kept lists the modules that only some packages may use.
var kept = map[string][]string{
	"github.com/gin-gonic/gin":      {"internal/api", "internal/console"},
	"github.com/hibiken/asynq":      {"workers"},
	"github.com/minio/minio-go":     {"internal/blob", "internal/bench"},
	"filippo.io/age":                {"internal/seal", "internal/disclosure"},
	"github.com/alicebob/miniredis": {"internal/standalone"},
}

// noDatabase is what the packages below the database must not reach by any way.
var noDatabase = []string{"github.com/jackc/pgx", "github.com/pressly/goose", "earmark/internal/db", "earmark/migrations"}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestFloors(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		name, floor := place(p.ImportPath)
		if floor < 0 {
			t.Errorf("%s stands on no floor: add it to the table", p.ImportPath)
			continue
		}
		for _, used := range p.Imports {
			other, below := place(used)
			if !strings.HasPrefix(used, "earmark/") || other == name || slices.Contains(beside[name], other) {
				continue
			}
			if below >= floor {
				t.Errorf("%s (floor %d) uses %s (floor %d)", p.ImportPath, floor, used, below)
			}
		}
	}
}

func TestModulesStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		name, _ := place(p.ImportPath)
		for module, owners := range kept {
			if slices.Contains(owners, name) {
				continue
			}
			if used := firstUnder(p.Imports, module); used != "" {
				t.Errorf("%s uses %s, which only %v may", p.ImportPath, used, owners)
			}
		}
	}
}

func TestNoDatabaseBelowTheDatabase(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		if _, floor := place(p.ImportPath); floor < 0 || floor > 1 {
			continue
		}
		for _, module := range noDatabase {
			if used := firstUnder(p.Deps, module); used != "" {
				t.Errorf("%s reaches %s", p.ImportPath, used)
			}
		}
	}
}

// place returns the table's name for a package, its parts included, and its
// floor; -1 for what is not in the table.
func place(importPath string) (string, int) {
	for floor, names := range floors {
		for _, name := range names {
			if under("earmark/"+name, importPath) {
				return name, floor
			}
		}
	}
	return "", -1
}

func firstUnder(paths []string, module string) string {
	for _, path := range paths {
		if under(module, path) {
			return path
		}
	}
	return ""
}

func under(parent, path string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

// listPackages lists this module's packages without their tests. Packages that
// exist to test by are tests too.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps", "earmark/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var own []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return own
		}
		if err != nil {
			t.Fatal(err)
		}
		if under("earmark", p.ImportPath) && !strings.HasSuffix(p.ImportPath, "test") && p.ImportPath != "earmark/internal" {
			own = append(own, p)
		}
	}
}
