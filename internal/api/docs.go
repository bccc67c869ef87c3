package api

import (
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"sort"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"earmark/internal/access"
)

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS []byte

var docsPage = template.Must(template.New("docs").Parse(docsHTML))

type docsRoute struct {
	Method, Path, Summary, Description string
	Actions, Roles                     string
	Parameters                         []docsParameter
}

type docsParameter struct {
	Name, In, Text string
	Required       bool
}

type docsProblem struct {
	Code, Title, Fix string
	Status           int
}

// docs shows the routes and the problems as a page that needs no script and
// no other host.
func (a *API) docs(c *gin.Context) {
	c.Status(http.StatusOK)
	c.Header("Content-Type", "text/html; charset=utf-8")
	data := struct {
		Version  string
		Routes   []docsRoute
		Problems []docsProblem
		Purposes []access.Purpose
	}{Version, a.docsRoutes(), docsProblems(), access.Purposes}
	if err := docsPage.Execute(c.Writer, data); err != nil {
		a.Log.Warn("write docs", "error", err)
	}
}

func (a *API) docsRoutes() []docsRoute {
	var routes []docsRoute
	for path, item := range a.huma.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put,
			http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if op != nil {
				routes = append(routes, a.docsRoute(method, path, op))
			}
		}
	}
	sort.Slice(routes, func(i, j int) bool {
		if routes[i].Path != routes[j].Path {
			return routes[i].Path < routes[j].Path
		}
		return routes[i].Method < routes[j].Method
	})
	return routes
}

func (a *API) docsRoute(method, path string, op *huma.Operation) docsRoute {
	r := docsRoute{Method: method, Path: path, Summary: op.Summary, Description: op.Description,
		Roles: "everybody"}
	if !a.open[method+" "+path] {
		r.Actions, r.Roles = a.routes[method+" "+path].docs()
	}
	for _, p := range op.Parameters {
		r.Parameters = append(r.Parameters, docsParameter{Name: p.Name, In: p.In, Text: p.Description, Required: p.Required})
	}
	return r
}

// docs are the needs, and the roles that meet them, in words.
func (n needs) docs() (actions, roles string) {
	var all, able []string
	for _, action := range n {
		all = append(all, string(action))
	}
	for _, role := range access.Roles {
		ctx := context.WithValue(context.Background(), actorKey, access.Actor{Role: role})
		if n.check(ctx) == nil {
			able = append(able, string(role))
		}
	}
	return strings.Join(all, " or "), strings.Join(able, ", ")
}

func docsProblems() []docsProblem {
	var problems []docsProblem
	seen := map[string]bool{}
	add := func(k kind, status int) {
		if !seen[k.code] {
			seen[k.code] = true
			problems = append(problems, docsProblem{Code: k.code, Title: k.title, Fix: k.fix, Status: status})
		}
	}
	for _, k := range kinds {
		add(k, k.status)
	}
	add(unreached, http.StatusServiceUnavailable)
	for status, k := range byStatus {
		add(k, status)
	}
	sort.Slice(problems, func(i, j int) bool { return problems[i].Code < problems[j].Code })
	return problems
}
