package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/quality"
)

func (in *ListInput) quality() quality.List {
	return quality.List{Limit: in.Limit, Cursor: in.Cursor}
}

// readsEvaluations: agents see their own by a right of their own, with the
// questions that were asked.
var readsEvaluations = needs{access.ReadQuality, access.ReadOwnEvaluations}

func (a *API) quality() {
	a.forms()
	a.plans()
	a.assignments()
	a.evaluations()
}

func (a *API) forms() {
	tags := []string{"forms"}
	route(a, needs{access.ReadQuality}, huma.Operation{
		OperationID: "list-forms", Method: http.MethodGet, Path: "/v1/forms", Tags: tags,
		Summary: "Evaluation forms, each in its latest version",
	}, func(ctx context.Context, actor access.Actor, in *ListInput) (*body[archive.Page[quality.Form]], error) {
		page, err := a.Quality.Forms(ctx, actor, in.quality())
		return &body[archive.Page[quality.Form]]{page}, err
	})
	type createInput struct{ Body quality.NewForm }
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "create-form", Method: http.MethodPost, Path: "/v1/forms", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Keep a form and publish its first version",
	}, func(ctx context.Context, actor access.Actor, in *createInput) (*body[quality.Form], error) {
		form, err := a.Quality.CreateForm(ctx, actor, in.Body)
		return &body[quality.Form]{form}, err
	})
	type readInput struct {
		ByID
		Version int `query:"version" minimum:"0" doc:"The latest when left out"`
	}
	route(a, readsEvaluations, huma.Operation{
		OperationID: "get-form", Method: http.MethodGet, Path: "/v1/forms/{id}", Tags: tags,
		Summary: "Read a version of a form",
	}, func(ctx context.Context, actor access.Actor, in *readInput) (*body[quality.Form], error) {
		form, err := a.Quality.Form(ctx, actor, in.ID, in.Version)
		return &body[quality.Form]{form}, err
	})
	type publishInput struct {
		ByID
		Body quality.Definition
	}
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "publish-form", Method: http.MethodPost, Path: "/v1/forms/{id}/versions", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Publish a form's next version; those before stay as they are",
	}, func(ctx context.Context, actor access.Actor, in *publishInput) (*body[quality.Form], error) {
		form, err := a.Quality.PublishVersion(ctx, actor, in.ID, in.Body)
		return &body[quality.Form]{form}, err
	})
}

func (a *API) plans() {
	tags := []string{"sampling"}
	route(a, needs{access.ReadQuality}, huma.Operation{
		OperationID: "list-plans", Method: http.MethodGet, Path: "/v1/sampling-plans", Tags: tags,
		Summary: "Sampling plans, newest first",
	}, func(ctx context.Context, actor access.Actor, in *ListInput) (*body[archive.Page[quality.Plan]], error) {
		page, err := a.Quality.Plans(ctx, actor, in.quality())
		return &body[archive.Page[quality.Plan]]{page}, err
	})
	type createInput struct{ Body quality.NewPlan }
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "create-plan", Method: http.MethodPost, Path: "/v1/sampling-plans", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Plan what is drawn, how many, and for whom",
	}, func(ctx context.Context, actor access.Actor, in *createInput) (*body[quality.Plan], error) {
		plan, err := a.Quality.CreatePlan(ctx, actor, in.Body)
		return &body[quality.Plan]{plan}, err
	})
	type drawInput struct {
		ByID
		Body quality.Window
	}
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "run-draw", Method: http.MethodPost, Path: "/v1/sampling-plans/{id}/draws", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Draw a sample from a window",
		Description: "The seed's SHA-256 goes into the ledger first. A window that is over is drawn from at once (201); otherwise the draw waits for its end (202).",
	}, func(ctx context.Context, actor access.Actor, in *drawInput) (*created[quality.Draw], error) {
		draw, err := a.Quality.CommitDraw(ctx, actor, in.ID, in.Body)
		if err != nil {
			return nil, err
		}
		if draw.DueAt.After(draw.RequestedAt) {
			return &created[quality.Draw]{http.StatusAccepted, draw}, nil
		}
		if err := a.Quality.RunDraw(ctx, draw.ID); err != nil {
			return nil, err
		}
		draw, err = a.Quality.Draw(ctx, actor, draw.ID)
		return &created[quality.Draw]{http.StatusCreated, draw}, err
	})
	type drawsInput struct {
		ListInput
		Plan string `query:"plan" format:"uuid" doc:"Only this plan's"`
	}
	route(a, needs{access.ReadQuality}, huma.Operation{
		OperationID: "list-draws", Method: http.MethodGet, Path: "/v1/draws", Tags: tags,
		Summary: "Draws, newest first",
	}, func(ctx context.Context, actor access.Actor, in *drawsInput) (*body[archive.Page[quality.Draw]], error) {
		page, err := a.Quality.Draws(ctx, actor, quality.DrawQuery{PlanID: optionalID(in.Plan), List: in.quality()})
		return &body[archive.Page[quality.Draw]]{page}, err
	})
	route(a, needs{access.ReadQuality}, huma.Operation{
		OperationID: "get-draw", Method: http.MethodGet, Path: "/v1/draws/{id}", Tags: tags,
		Summary: "Read a draw",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[quality.Draw], error) {
		draw, err := a.Quality.Draw(ctx, actor, in.ID)
		return &body[quality.Draw]{draw}, err
	})
	a.stream(needs{access.ReadQuality}, huma.Operation{
		OperationID: "get-manifest", Method: http.MethodGet, Path: "/v1/draws/{id}/manifest", Tags: tags,
		Summary:     "The signed manifest of a draw",
		Description: "`earmark verify` draws again from it, offline, and gets the same picks.",
		Parameters:  []*huma.Param{{Name: "id", In: "path", Required: true, Schema: pathID.Schema, Description: "The draw's id"}},
		Responses:   map[string]*huma.Response{"200": a.signedAnswer(), "default": a.problemAnswer()},
	}, func(c *gin.Context, actor access.Actor) error {
		id, err := idInPath(c)
		if err != nil {
			return err
		}
		manifest, err := a.Quality.Manifest(c.Request.Context(), actor, id)
		if err != nil {
			return err
		}
		c.Data(http.StatusOK, "application/json", manifest)
		return nil
	})
}

// optionalID reads an id that huma has checked; nil when it was left out.
func optionalID(text string) *uuid.UUID {
	id, err := uuid.Parse(text)
	if err != nil {
		return nil
	}
	return &id
}

func (a *API) assignments() {
	tags := []string{"evaluations"}
	type listAssignments struct {
		ListInput
		State       string `query:"state" maxLength:"32" doc:"Only those in this state"`
		Draw        string `query:"draw" format:"uuid" doc:"Only this draw's"`
		Interaction string `query:"interaction" format:"uuid" doc:"Only this interaction's"`
		Reviewer    string `query:"reviewer" format:"uuid" doc:"Only this reviewer's"`
		Agent       string `query:"agent" maxLength:"255" doc:"Only this agent's"`
	}
	route(a, needs{access.ReadQuality}, huma.Operation{
		OperationID: "list-assignments", Method: http.MethodGet, Path: "/v1/assignments", Tags: tags,
		Summary: "Assignments, newest first; reviewers see their own",
	}, func(ctx context.Context, actor access.Actor, in *listAssignments) (*body[archive.Page[quality.Assignment]], error) {
		page, err := a.Quality.Assignments(ctx, actor, quality.AssignmentQuery{
			State: quality.AssignmentState(in.State), DrawID: optionalID(in.Draw), InteractionID: optionalID(in.Interaction),
			ReviewerID: optionalID(in.Reviewer), AgentID: in.Agent, List: in.quality(),
		})
		return &body[archive.Page[quality.Assignment]]{page}, err
	})
	route(a, needs{access.ReadQuality}, huma.Operation{
		OperationID: "get-assignment", Method: http.MethodGet, Path: "/v1/assignments/{id}", Tags: tags,
		Summary: "Read an assignment",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[quality.Assignment], error) {
		assignment, err := a.Quality.Assignment(ctx, actor, in.ID)
		return &body[quality.Assignment]{assignment}, err
	})
	type reassignInput struct {
		ByID
		Body struct {
			ReviewerID uuid.UUID `json:"reviewer_id"`
		}
	}
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "reassign", Method: http.MethodPost, Path: "/v1/assignments/{id}/reassign", Tags: tags,
		Summary: "Give an assignment to another reviewer",
	}, func(ctx context.Context, actor access.Actor, in *reassignInput) (*body[quality.Assignment], error) {
		assignment, err := a.Quality.Reassign(ctx, actor, in.ID, in.Body.ReviewerID)
		return &body[quality.Assignment]{assignment}, err
	})
	type reasonInput struct {
		ByID
		Body struct {
			Reason quality.Reason `json:"reason" enum:"inaudible,no_conversation,wrong_agent,wrong_form,unknown_language,known_person,no_consent,other"`
		}
	}
	type skipped struct {
		Skipped     quality.Assignment  `json:"skipped"`
		Replacement *quality.Assignment `json:"replacement"`
	}
	route(a, needs{access.Evaluate}, huma.Operation{
		OperationID: "skip-assignment", Method: http.MethodPost, Path: "/v1/assignments/{id}/skip", Tags: tags,
		Summary: "Give up an assignment; the agent's next interaction is drawn in its place",
	}, func(ctx context.Context, actor access.Actor, in *reasonInput) (*body[skipped], error) {
		assignment, replacement, err := a.Quality.Skip(ctx, actor, in.ID, in.Body.Reason)
		return &body[skipped]{skipped{assignment, replacement}}, err
	})
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "void-assignment", Method: http.MethodPost, Path: "/v1/assignments/{id}/void", Tags: tags,
		Summary: "End an assignment without a replacement",
	}, func(ctx context.Context, actor access.Actor, in *reasonInput) (*body[quality.Assignment], error) {
		assignment, err := a.Quality.Void(ctx, actor, in.ID, in.Body.Reason)
		return &body[quality.Assignment]{assignment}, err
	})
}

func (a *API) evaluations() {
	tags := []string{"evaluations"}
	type submitInput struct{ Body quality.NewEvaluation }
	route(a, needs{access.Evaluate}, huma.Operation{
		OperationID: "submit-evaluation", Method: http.MethodPost, Path: "/v1/evaluations", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Score what one is assigned; submitted again before its release, a revision is appended",
	}, func(ctx context.Context, actor access.Actor, in *submitInput) (*body[quality.Evaluation], error) {
		evaluation, err := a.Quality.Submit(ctx, actor, in.Body)
		return &body[quality.Evaluation]{evaluation}, err
	})
	type listEvaluations struct {
		ListInput
		Assignment  string `query:"assignment" format:"uuid"`
		Interaction string `query:"interaction" format:"uuid"`
		Form        string `query:"form" format:"uuid"`
		Agent       string `query:"agent" maxLength:"255"`
		Stream      string `query:"stream" enum:"random,targeted"`
		State       string `query:"state" maxLength:"32"`
	}
	route(a, readsEvaluations, huma.Operation{
		OperationID: "list-evaluations", Method: http.MethodGet, Path: "/v1/evaluations", Tags: tags,
		Summary: "Evaluations in their latest revision; reviewers see their own, agents the released ones of their own calls",
	}, func(ctx context.Context, actor access.Actor, in *listEvaluations) (*body[archive.Page[quality.Evaluation]], error) {
		page, err := a.Quality.Evaluations(ctx, actor, quality.EvaluationQuery{
			AssignmentID: optionalID(in.Assignment), InteractionID: optionalID(in.Interaction), FormID: optionalID(in.Form),
			AgentID: in.Agent, Stream: quality.Stream(in.Stream), State: quality.AssignmentState(in.State), List: in.quality(),
		})
		return &body[archive.Page[quality.Evaluation]]{page}, err
	})
	route(a, readsEvaluations, huma.Operation{
		OperationID: "get-evaluation", Method: http.MethodGet, Path: "/v1/evaluations/{id}", Tags: tags,
		Summary: "Read an evaluation",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[quality.Evaluation], error) {
		evaluation, err := a.Quality.Evaluation(ctx, actor, in.ID)
		return &body[quality.Evaluation]{evaluation}, err
	})
	route(a, needs{access.ManageQuality}, huma.Operation{
		OperationID: "release-evaluation", Method: http.MethodPost, Path: "/v1/evaluations/{id}/release", Tags: tags,
		Summary: "Let the agent see an evaluation; the draw's hold ends",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[quality.Evaluation], error) {
		evaluation, err := a.Quality.Release(ctx, actor, in.ID)
		return &body[quality.Evaluation]{evaluation}, err
	})
}
