package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
)

// called is a route with its names filled in, by ids of nothing.
func called(route string) (method, path string) {
	method, path, _ = strings.Cut(route, " ")
	for _, name := range []string{"{id}", "{name}", "{source}"} {
		with := uuid.NewString()
		if name != "{id}" {
			with = "audio"
		}
		path = strings.ReplaceAll(path, name, with)
	}
	return method, path
}

// knock calls a route with what makes it ask who is there.
func (h *house) knock(role access.Role, route string) answer {
	method, path := called(route)
	contentType, body := "application/json", "{}"
	switch {
	case route == "POST /v1/interactions":
		body = metadata()
	case route == "POST /v1/erasure-requests":
		body = `{"customer_id": "` + uuid.NewString() + `", "reason": "asked by letter"}`
	case route == "GET /v1/ledger/proof":
		path += "?leaf=0"
	case strings.HasPrefix(route, "PUT /v1/interactions/"):
		contentType, body = "audio/wav", string(tone(1))
	}
	if method == http.MethodGet || method == http.MethodHead || method == http.MethodDelete {
		body = ""
	}
	if strings.HasSuffix(route, "/audio") {
		path += "?purpose=" + string(access.Training)
		if purposes := role.Purposes(); len(purposes) > 0 {
			path = strings.TrimSuffix(path, string(access.Training)) + string(purposes[0])
		}
	}
	return h.do(h.request(role, method, path, strings.NewReader(body), "Content-Type", contentType))
}

// codeOf is an answer's code; HEAD has none but its status.
func codeOf(a answer) string {
	var p Problem
	if json.Unmarshal(a.body, &p) != nil || a.StatusCode < http.StatusBadRequest {
		return ""
	}
	return p.Code
}

func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	for _, route := range slices.Sorted(maps.Keys(h.routes)) {
		stranger := h.knock("", route)
		if stranger.StatusCode != http.StatusUnauthorized || stranger.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s by a stranger: %d %v", route, stranger.StatusCode, stranger.Header)
		}
		if stranger.Request.Method != http.MethodHead {
			h.problem(stranger, http.StatusUnauthorized, "unauthenticated")
		}
		for _, role := range access.Roles {
			h.mayCall(role, route, h.routes[route])
		}
	}
}

// The operations behind the routes refuse by themselves, too: the console has
// other doors to them.
func TestOperationsAuthoriseThemselves(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	declared := maps.Clone(h.routes)
	for route := range h.routes {
		h.routes[route] = anybody
	}
	for _, route := range slices.Sorted(maps.Keys(declared)) {
		for _, role := range access.Roles {
			h.mayCall(role, route, declared[route])
		}
	}
}

func (h *house) mayCall(role access.Role, route string, n needs) {
	h.Helper()
	allowed := len(n) == 0
	for _, action := range n {
		allowed = allowed || slices.Contains(role.Actions(), action)
	}
	a := h.knock(role, route)
	refused := a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden
	if a.Request.Method != http.MethodHead {
		refused = codeOf(a) == "forbidden" || codeOf(a) == "unauthenticated"
	}
	if refused == allowed || a.StatusCode >= http.StatusInternalServerError {
		h.Errorf("%s by %s: %d %s, allowed %v", route, role, a.StatusCode, a.body, allowed)
	}
	if refused && a.Request.Method != http.MethodHead {
		h.problem(a, http.StatusForbidden, "forbidden")
	}
}

// unlisted are public routes that the document leaves out: those for whoever
// runs the service, and the document itself.
var unlisted = []string{
	"GET /healthz", "GET /readyz", "GET /metrics", "GET /docs", "GET /docs.css",
	"GET /openapi.json", "GET /openapi.yaml", "GET /openapi-3.0.json", "GET /openapi-3.0.yaml",
}

func TestRoutesAndDocumentAgree(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	document := into[document31](h, h.get("", "/openapi.json"), http.StatusOK)
	var mounted, described []string
	for _, r := range h.engine.Routes() {
		mounted = append(mounted, r.Method+" "+r.Path)
	}
	for path, item := range document.Paths {
		for method := range item {
			described = append(described, strings.ToUpper(method)+" "+ginPath(path))
		}
	}
	want := slices.Concat(described, unlisted)
	slices.Sort(mounted)
	slices.Sort(want)
	if diff := cmp.Diff(want, mounted); diff != "" {
		t.Errorf("routes (-described +mounted):\n%s", diff)
	}
	declared := slices.Collect(maps.Keys(h.routes))
	for route := range h.open {
		declared = append(declared, route)
	}
	for i, route := range declared {
		declared[i] = ginPath(route)
	}
	slices.Sort(declared)
	if diff := cmp.Diff(declared, mounted); diff != "" {
		t.Errorf("routes (-declared +mounted):\n%s", diff)
	}
	for path, item := range document.Paths {
		for method, op := range item {
			name := strings.ToUpper(method) + " " + path
			want := h.routes[name]
			if diff := cmp.Diff([]access.Action(want), op.Actions); diff != "" {
				t.Errorf("%s: actions (-declared +described):\n%s", name, diff)
			}
			if open := op.Security != nil && len(*op.Security) == 0; open != h.open[name] {
				t.Errorf("%s: described as open %v, is %v", name, open, h.open[name])
			}
		}
	}
	for route := range h.open {
		method, path, _ := strings.Cut(route, " ")
		if a := h.do(h.request("", method, path, nil)); a.StatusCode != http.StatusOK {
			t.Errorf("%s by a stranger: %d", route, a.StatusCode)
		}
	}
}

type document31 struct {
	OpenAPI string
	Info    struct{ Title, Version string }
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string
		Actions     []access.Action `json:"x-earmark-actions"`
		Security    *[]map[string][]string
		Parameters  []struct {
			Name, In string
			Required bool
			Schema   map[string]any
		}
		RequestBody *struct{ Content map[string]any }
		Responses   map[string]struct{ Description string }
	}
	Components struct {
		Schemas         map[string]any
		SecuritySchemes map[string]any
	}
	Security []map[string][]string
}

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	a := h.get("", "/openapi.json")
	d := into[document31](h, a, http.StatusOK)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version == "" {
		t.Errorf("openapi %q, info %+v", d.OpenAPI, d.Info)
	}
	var raw map[string]any
	h.must(json.Unmarshal(a.body, &raw))
	walk(raw, "#", func(at string, object map[string]any) {
		if ref, ok := object["$ref"].(string); ok && !resolves(raw, ref) {
			t.Errorf("%s refers to %s, which is not there", at, ref)
		}
		for name, value := range object {
			if value == nil {
				t.Errorf("%s.%s is null", at, name)
			}
		}
	})
	ids := map[string]string{}
	for path, item := range d.Paths {
		for method, op := range item {
			name := method + " " + path
			if other, taken := ids[op.OperationID]; taken || op.OperationID == "" {
				t.Errorf("%s and %s are both %q", name, other, op.OperationID)
			}
			ids[op.OperationID] = name
			if op.Summary == "" || len(op.Responses) == 0 {
				t.Errorf("%s: summary %q, %d responses", name, op.Summary, len(op.Responses))
			}
			for status, response := range op.Responses {
				if response.Description == "" {
					t.Errorf("%s: %s has no description", name, status)
				}
			}
			described := map[string]bool{}
			for _, p := range op.Parameters {
				if described[p.In+p.Name] || p.Schema == nil || p.In == "path" && !p.Required {
					t.Errorf("%s: parameter %+v", name, p)
				}
				described[p.In+p.Name] = true
			}
			for _, step := range strings.Split(path, "/") {
				if name, isName := strings.CutPrefix(step, "{"); isName && !described["path"+strings.TrimSuffix(name, "}")] {
					t.Errorf("%s: {%s is not described", path, name)
				}
			}
		}
	}
	for _, scheme := range d.Security {
		for name := range scheme {
			if d.Components.SecuritySchemes[name] == nil {
				t.Errorf("no security scheme %s", name)
			}
		}
	}
}

func walk(node any, at string, visit func(at string, object map[string]any)) {
	switch v := node.(type) {
	case map[string]any:
		visit(at, v)
		for name, child := range v {
			if name != "example" && name != "examples" && name != "default" {
				walk(child, at+"/"+name, visit)
			}
		}
	case []any:
		for i, child := range v {
			walk(child, fmt.Sprintf("%s/%d", at, i), visit)
		}
	}
}

func resolves(document map[string]any, ref string) bool {
	var node any = document
	steps, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return false
	}
	for step := range strings.SplitSeq(steps, "/") {
		object, _ := node.(map[string]any)
		if node, ok = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !ok {
			return false
		}
	}
	return true
}

// An empty list is a list: clients iterate over it.
func TestListsOfNothing(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	for route, n := range h.routes {
		method, path, _ := strings.Cut(route, " ")
		if method != http.MethodGet || strings.Contains(path, "{") {
			continue
		}
		var role access.Role
		for _, r := range access.Roles {
			if len(n) == 0 || slices.ContainsFunc(n, func(a access.Action) bool { return slices.Contains(r.Actions(), a) }) {
				role = r
			}
		}
		var page map[string]json.RawMessage
		a := h.get(role, path)
		if a.StatusCode != http.StatusOK || json.Unmarshal(a.body, &page) != nil {
			continue
		}
		if items, isList := page["items"]; isList && !strings.HasPrefix(string(items), "[") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}
