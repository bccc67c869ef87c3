package api

import (
	"context"
	"io"
	"mime"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// body is an answer that is JSON.
type body[T any] struct{ Body T }

// created is an answer whose status tells new from known.
type created[T any] struct {
	Status int
	Body   T
}

func statusOf(isNew bool) int {
	if isNew {
		return http.StatusCreated
	}
	return http.StatusOK
}

// ByID names one thing. Like all inputs that others embed it is exported, since
// huma binds no field of an embedded type that is not.
type ByID struct {
	ID uuid.UUID `path:"id" doc:"Its id"`
}

// ListInput asks for a part of a list.
type ListInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many at most"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next_cursor of the page before"`
}

// SearchInput is a search for interactions.
type SearchInput struct {
	ListInput
	Text        string    `query:"q" maxLength:"500" doc:"Words, with or without Vietnamese marks"`
	From        time.Time `query:"from" doc:"Started at this time or later"`
	To          time.Time `query:"to" doc:"Started before this time"`
	Agent       string    `query:"agent" maxLength:"255" doc:"The agent's id"`
	Queue       string    `query:"queue" maxLength:"255"`
	Channel     string    `query:"channel" enum:"voice,chat,email,sms,social,note"`
	Direction   string    `query:"direction" enum:"inbound,outbound,internal"`
	Customer    string    `query:"customer" maxLength:"255" doc:"A number in any form, an e-mail address, or the customer's id"`
	Disposition string    `query:"disposition" maxLength:"255"`
	Tag         string    `query:"tag" maxLength:"255"`
	State       string    `query:"state" enum:"active,quarantined,restricted,purging,erased"`
	Source      string    `query:"source" maxLength:"255"`
	MinDuration float64   `query:"min_duration" minimum:"0" doc:"Seconds"`
	MaxDuration float64   `query:"max_duration" minimum:"0" doc:"Seconds"`
}

func (in *SearchInput) query() archive.Query {
	q := archive.Query{
		Text: in.Text, Agent: in.Agent, Queue: in.Queue, Channel: in.Channel, Direction: in.Direction,
		Customer: in.Customer, Disposition: in.Disposition, Tag: in.Tag, State: archive.State(in.State),
		Source: in.Source, Limit: in.Limit, Cursor: in.Cursor,
	}
	if !in.From.IsZero() {
		q.From = &in.From
	}
	if !in.To.IsZero() {
		q.To = &in.To
	}
	if in.MinDuration > 0 {
		q.MinDuration = &in.MinDuration
	}
	if in.MaxDuration > 0 {
		q.MaxDuration = &in.MaxDuration
	}
	return q
}

// interactionWithText is an interaction as somebody with a purpose reads it.
type interactionWithText struct {
	archive.Interaction
	Messages   []archive.Message `json:"messages,omitempty"`
	Transcript string            `json:"transcript,omitempty"`
}

func (a *API) interactions() {
	a.stream(needs{access.SubmitInteractions}, a.submitOperation(), a.submit)

	route(a, needs{access.ReadInteractions}, huma.Operation{
		OperationID: "search-interactions", Method: http.MethodGet, Path: "/v1/interactions", Tags: []string{"interactions"},
		Summary:     "Find interactions, newest first",
		Description: "Uploaders find their own source's, agents their own. What was said is not shown here.",
	}, func(ctx context.Context, actor access.Actor, in *SearchInput) (*body[archive.Page[archive.Interaction]], error) {
		page, err := a.Archive.Search(ctx, actor, in.query())
		return &body[archive.Page[archive.Interaction]]{page}, err
	})

	type readInput struct {
		ByID
		Purpose access.Purpose `query:"purpose" doc:"Why messages and transcript are read; without it they are left out"`
	}
	route(a, needs{access.ReadInteractions}, huma.Operation{
		OperationID: "get-interaction", Method: http.MethodGet, Path: "/v1/interactions/{id}", Tags: []string{"interactions"},
		Summary: "Read an interaction; with a purpose, what was written and transcribed too",
	}, func(ctx context.Context, actor access.Actor, in *readInput) (*body[interactionWithText], error) {
		found, err := a.Archive.Get(ctx, actor, in.ID)
		out := &body[interactionWithText]{interactionWithText{Interaction: found}}
		if err != nil || in.Purpose == "" {
			return out, err
		}
		text, err := a.Archive.Read(ctx, actor, in.ID, in.Purpose)
		out.Body.Messages, out.Body.Transcript = text.Messages, text.Transcript
		return out, err
	})

	type amendInput struct {
		ByID
		RawBody []byte `contentType:"application/json"`
	}
	route(a, needs{access.AmendInteractions}, huma.Operation{
		OperationID: "amend-interaction", Method: http.MethodPatch, Path: "/v1/interactions/{id}", Tags: []string{"interactions"},
		Summary:     "Change tags, disposition, codes and attributes",
		Description: "A privacy officer may also set `consent`, which releases the interaction from quarantine.",
		RequestBody: a.jsonBody(archive.Patch{}), SkipValidateBody: true, MaxBodyBytes: maxMetadata,
	}, func(ctx context.Context, actor access.Actor, in *amendInput) (*body[archive.Interaction], error) {
		patch, err := archive.ParsePatch(in.RawBody)
		if err != nil {
			return nil, err
		}
		amended, err := a.Archive.Amend(ctx, actor, in.ID, patch)
		return &body[archive.Interaction]{amended}, err
	})
}

func (a *API) submitOperation() huma.Operation {
	schema := a.schema(archive.NewInteraction{})
	file := &huma.Schema{Type: huma.TypeObject, Required: []string{"metadata", "audio"}, Properties: map[string]*huma.Schema{
		"metadata": schema,
		"audio":    {Type: huma.TypeString, Format: "binary", Description: "The recording; the last part"},
	}}
	answer := a.answer("The interaction, with its receipt", archive.Interaction{})
	return huma.Operation{
		OperationID: "submit-interaction", Method: http.MethodPost, Path: "/v1/interactions", Tags: []string{"interactions"},
		Summary:     "Take in an interaction, with or without its recording",
		Description: "JSON: a call's metadata, or a chat, e-mail or note with its messages. multipart/form-data: `metadata`, then `audio`. The same (source, source_id) is one interaction, however often it is sent.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json":    {Schema: schema},
			"multipart/form-data": {Schema: file},
		}},
		Responses: map[string]*huma.Response{"201": answer, "200": answer, "default": a.problemAnswer()},
	}
}

// submit takes an interaction in, by JSON or with its audio.
func (a *API) submit(c *gin.Context, actor access.Actor) error {
	ctx := c.Request.Context()
	mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil {
		return statusProblem(http.StatusUnsupportedMediaType, "Send application/json or multipart/form-data.")
	}
	var found archive.Interaction
	var isNew bool
	switch mediaType {
	case "application/json":
		found, isNew, err = a.submitJSON(ctx, actor, c.Request.Body)
	case "multipart/form-data":
		found, isNew, err = a.submitMultipart(ctx, actor, c.Request)
	default:
		return statusProblem(http.StatusUnsupportedMediaType, "Send application/json or multipart/form-data.")
	}
	if err != nil {
		return err
	}
	c.Header("Location", "/v1/interactions/"+found.ID.String())
	c.JSON(statusOf(isNew), found)
	return nil
}

func (a *API) submitJSON(ctx context.Context, actor access.Actor, r io.Reader) (archive.Interaction, bool, error) {
	data, err := readMetadata(r)
	if err != nil {
		return archive.Interaction{}, false, err
	}
	n, err := archive.ParseNew(data)
	if err != nil {
		return archive.Interaction{}, false, err
	}
	return a.Archive.Submit(ctx, actor, n)
}

func (a *API) submitMultipart(ctx context.Context, actor access.Actor, r *http.Request) (archive.Interaction, bool, error) {
	u, err := readUpload(r)
	if err != nil {
		return archive.Interaction{}, false, err
	}
	n, err := archive.ParseNew(u.metadata)
	if err != nil {
		return archive.Interaction{}, false, err
	}
	return a.Archive.SubmitWithAudio(ctx, actor, n, u.audio)
}

// schema is the JSON schema of v's type, kept among the document's components.
func (a *API) schema(v any) *huma.Schema {
	t := reflect.TypeOf(v)
	return a.huma.OpenAPI().Components.Schemas.Schema(t, true, "")
}

func (a *API) jsonBody(v any) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: a.schema(v)}}}
}

func (a *API) answer(description string, v any) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: a.schema(v)}}}
}

func (a *API) problemAnswer() *huma.Response {
	return &huma.Response{Description: "A problem", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: a.schema(Problem{})}}}
}
