package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/lifecycle"
)

// StateListInput asks for a part of a list, of those in one state.
type StateListInput struct {
	ListInput
	State string `query:"state" maxLength:"32" doc:"Only those in this state"`
}

func (in *StateListInput) list() lifecycle.List {
	return lifecycle.List{State: in.State, Limit: in.Limit, Cursor: in.Cursor}
}

func (a *API) lifecycle() {
	a.policies()
	a.holds()
	a.purges()
}

func (a *API) policies() {
	tags := []string{"retention"}
	route(a, needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "list-policies", Method: http.MethodGet, Path: "/v1/retention-policies", Tags: tags,
		Summary:     "Retention policies, the active ones first, in the order in which they apply",
		Description: "Where none applies, interactions are kept until erasure is asked for.",
	}, func(ctx context.Context, actor access.Actor, _ *struct{}) (*body[list[lifecycle.Policy]], error) {
		policies, err := a.Lifecycle.Policies(ctx, actor)
		return &body[list[lifecycle.Policy]]{list[lifecycle.Policy]{policies}}, err
	})
	type proposeInput struct{ Body lifecycle.NewPolicy }
	route(a, needs{access.ProposePolicies}, huma.Operation{
		OperationID: "propose-policy", Method: http.MethodPost, Path: "/v1/retention-policies", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Propose a retention policy; another person approves it",
	}, func(ctx context.Context, actor access.Actor, in *proposeInput) (*body[lifecycle.Policy], error) {
		policy, err := a.Lifecycle.ProposePolicy(ctx, actor, in.Body)
		return &body[lifecycle.Policy]{policy}, err
	})
	route(a, needs{access.ApprovePolicies}, huma.Operation{
		OperationID: "approve-policy", Method: http.MethodPost, Path: "/v1/retention-policies/{id}/approve", Tags: tags,
		Summary: "Put a policy in force that another person proposed",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Policy], error) {
		policy, err := a.Lifecycle.ApprovePolicy(ctx, actor, in.ID)
		return &body[lifecycle.Policy]{policy}, err
	})
	route(a, needs{access.ApprovePolicies}, huma.Operation{
		OperationID: "retire-policy", Method: http.MethodPost, Path: "/v1/retention-policies/{id}/retire", Tags: tags,
		Summary:     "Take a policy out of force",
		Description: "Where that could shorten retention, the first call asks for it and another person's call does it.",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Policy], error) {
		policy, err := a.Lifecycle.RetirePolicy(ctx, actor, in.ID)
		return &body[lifecycle.Policy]{policy}, err
	})
}

func (a *API) holds() {
	tags := []string{"holds"}
	route(a, needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "list-holds", Method: http.MethodGet, Path: "/v1/legal-holds", Tags: tags,
		Summary: "Legal holds, newest first",
	}, func(ctx context.Context, actor access.Actor, in *StateListInput) (*body[archive.Page[lifecycle.Hold]], error) {
		page, err := a.Lifecycle.Holds(ctx, actor, in.list())
		return &body[archive.Page[lifecycle.Hold]]{page}, err
	})
	type placeInput struct{ Body lifecycle.NewHold }
	route(a, needs{access.PlaceHolds}, huma.Operation{
		OperationID: "place-hold", Method: http.MethodPost, Path: "/v1/legal-holds", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Keep interactions from being destroyed",
		Description: "By a list or by a filter. Each is held when this returns, or stands in `gone`.",
	}, func(ctx context.Context, actor access.Actor, in *placeInput) (*body[lifecycle.Hold], error) {
		hold, err := a.Lifecycle.PlaceHold(ctx, actor, in.Body)
		return &body[lifecycle.Hold]{hold}, err
	})
	route(a, needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "get-hold", Method: http.MethodGet, Path: "/v1/legal-holds/{id}", Tags: tags,
		Summary: "Read a legal hold",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Hold], error) {
		hold, err := a.Lifecycle.Hold(ctx, actor, in.ID)
		return &body[lifecycle.Hold]{hold}, err
	})
	route(a, needs{access.PlaceHolds}, huma.Operation{
		OperationID: "request-release", Method: http.MethodPost, Path: "/v1/legal-holds/{id}/request-release", Tags: tags,
		Summary: "Ask for the release of a hold; it goes on holding",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Hold], error) {
		hold, err := a.Lifecycle.RequestRelease(ctx, actor, in.ID)
		return &body[lifecycle.Hold]{hold}, err
	})
	route(a, needs{access.ReleaseHolds}, huma.Operation{
		OperationID: "release-hold", Method: http.MethodPost, Path: "/v1/legal-holds/{id}/release", Tags: tags,
		Summary: "Release a hold whose release another person asked for",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Hold], error) {
		hold, err := a.Lifecycle.ApproveRelease(ctx, actor, in.ID)
		return &body[lifecycle.Hold]{hold}, err
	})
}

func (a *API) purges() {
	tags := []string{"purges"}
	route(a, needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "list-purges", Method: http.MethodGet, Path: "/v1/purges", Tags: tags,
		Summary: "Purges, newest first",
	}, func(ctx context.Context, actor access.Actor, in *StateListInput) (*body[archive.Page[lifecycle.Purge]], error) {
		page, err := a.Lifecycle.Purges(ctx, actor, in.list())
		return &body[archive.Page[lifecycle.Purge]]{page}, err
	})
	type previewInput struct{ Body lifecycle.NewPurge }
	route(a, needs{access.RequestPurges}, huma.Operation{
		OperationID: "preview-purge", Method: http.MethodPost, Path: "/v1/purges", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Preview a purge: what would go, what is exempt and why",
		Description: "Nothing is destroyed before another person approves it.",
	}, func(ctx context.Context, actor access.Actor, in *previewInput) (*body[lifecycle.Purge], error) {
		purge, err := a.Lifecycle.Preview(ctx, actor, in.Body)
		return &body[lifecycle.Purge]{purge}, err
	})
	route(a, needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "get-purge", Method: http.MethodGet, Path: "/v1/purges/{id}", Tags: tags,
		Summary: "Read a purge and how far it is",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Purge], error) {
		purge, err := a.Lifecycle.Purge(ctx, actor, in.ID)
		return &body[lifecycle.Purge]{purge}, err
	})
	type itemsInput struct {
		ByID
		StateListInput
	}
	route(a, needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "list-purge-items", Method: http.MethodGet, Path: "/v1/purges/{id}/items", Tags: tags,
		Summary: "The items of a purge",
	}, func(ctx context.Context, actor access.Actor, in *itemsInput) (*body[archive.Page[lifecycle.Item]], error) {
		page, err := a.Lifecycle.Items(ctx, actor, in.ID, in.list())
		return &body[archive.Page[lifecycle.Item]]{page}, err
	})
	type approveInput struct {
		ByID
		Body *struct {
			Override bool `json:"override,omitempty" doc:"Say it again where the guard rail was overridden"`
		} `required:"false"`
	}
	route(a, needs{access.ApprovePurges}, huma.Operation{
		OperationID: "approve-purge", Method: http.MethodPost, Path: "/v1/purges/{id}/approve", Tags: tags,
		Summary: "Have a purge run that another person asked for",
	}, func(ctx context.Context, actor access.Actor, in *approveInput) (*body[lifecycle.Purge], error) {
		override := in.Body != nil && in.Body.Override
		purge, err := a.Lifecycle.Approve(ctx, actor, in.ID, override)
		return &body[lifecycle.Purge]{purge}, err
	})
	route(a, needs{access.RequestPurges, access.ApprovePurges}, huma.Operation{
		OperationID: "cancel-purge", Method: http.MethodPost, Path: "/v1/purges/{id}/cancel", Tags: tags,
		Summary: "End a purge that has not begun",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Purge], error) {
		purge, err := a.Lifecycle.Cancel(ctx, actor, in.ID)
		return &body[lifecycle.Purge]{purge}, err
	})
	a.stream(needs{access.ReadLifecycle}, huma.Operation{
		OperationID: "get-certificate", Method: http.MethodGet, Path: "/v1/purges/{id}/certificate", Tags: tags,
		Summary:     "The signed certificate of a finished purge",
		Description: "`earmark verify` checks it offline, with the key of GET /v1/ledger/key alone.",
		Parameters:  []*huma.Param{{Name: "id", In: "path", Required: true, Schema: pathID.Schema, Description: "The purge's id"}},
		Responses:   map[string]*huma.Response{"200": a.signedAnswer(), "default": a.problemAnswer()},
	}, func(c *gin.Context, actor access.Actor) error {
		id, err := idInPath(c)
		if err != nil {
			return err
		}
		certificate, err := a.Lifecycle.Certificate(c.Request.Context(), actor, id)
		if err != nil {
			return err
		}
		c.Data(http.StatusOK, "application/json", certificate)
		return nil
	})
}

func (a *API) signedAnswer() *huma.Response {
	return &huma.Response{Description: "A signed document", Content: map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}}}
}
