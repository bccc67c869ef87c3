package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/audit"
	"earmark/internal/invalid"
)

func (a *API) ledger() {
	tags := []string{"ledger"}
	type entriesInput struct {
		ListInput
		From    int64  `query:"from" minimum:"0" doc:"From this leaf on"`
		Subject string `query:"subject" maxLength:"255" doc:"Such as interaction:<id>"`
		Action  string `query:"action" maxLength:"255" doc:"Such as recording.heard"`
		Actor   string `query:"actor" maxLength:"255" doc:"Such as user:<id>"`
	}
	route(a, needs{access.ReadLedger}, huma.Operation{
		OperationID: "list-entries", Method: http.MethodGet, Path: "/v1/ledger/entries", Tags: tags,
		Summary:     "Entries of the ledger, in the order of their leaves",
		Description: "`text` is what the leaf is the hash of, byte for byte.",
	}, func(ctx context.Context, actor access.Actor, in *entriesInput) (*body[audit.Page], error) {
		page, err := a.Audit.Entries(ctx, actor, audit.Query{
			From: in.From, Subject: in.Subject, Action: in.Action, Actor: in.Actor, Limit: in.Limit, Cursor: in.Cursor})
		return &body[audit.Page]{page}, err
	})
	a.stream(needs{access.ReadLedger}, huma.Operation{
		OperationID: "get-checkpoint", Method: http.MethodGet, Path: "/v1/ledger/checkpoint", Tags: tags,
		Summary:   "The newest checkpoint, a signed note (C2SP tlog-checkpoint)",
		Responses: map[string]*huma.Response{"200": noteAnswer("A signed note"), "default": a.problemAnswer()},
	}, func(c *gin.Context, actor access.Actor) error {
		checkpoint, err := a.Audit.Checkpoint(c.Request.Context(), actor)
		if err != nil {
			return err
		}
		c.String(http.StatusOK, "%s", checkpoint)
		return nil
	})
	type proofInput struct {
		Entry string `query:"entry" format:"uuid" doc:"Prove that this entry is in the ledger"`
		Leaf  int64  `query:"leaf" minimum:"-1" default:"-1" doc:"Or the entry at this leaf"`
		Size  int64  `query:"size" minimum:"0" doc:"In the tree of this size; the newest checkpoint's when left out"`
		Old   int64  `query:"old" minimum:"-1" default:"-1" doc:"Prove that the tree of this size"`
		New   int64  `query:"new" minimum:"0" doc:"is the beginning of the tree of this size"`
	}
	type proof struct {
		Inclusion   *audit.Inclusion   `json:"inclusion,omitempty"`
		Consistency *audit.Consistency `json:"consistency,omitempty"`
	}
	route(a, needs{access.ReadLedger}, huma.Operation{
		OperationID: "get-proof", Method: http.MethodGet, Path: "/v1/ledger/proof", Tags: tags,
		Summary: "Prove that an entry is in the ledger, or that the ledger was only added to",
	}, func(ctx context.Context, actor access.Actor, in *proofInput) (*body[proof], error) {
		if in.Old >= 0 {
			consistency, err := a.Audit.ConsistencyProof(ctx, actor, in.Old, in.New)
			return &body[proof]{proof{Consistency: &consistency}}, err
		}
		leaf, err := a.leafOf(ctx, actor, in.Entry, in.Leaf)
		if err != nil {
			return nil, err
		}
		inclusion, err := a.Audit.InclusionProof(ctx, actor, leaf, in.Size)
		return &body[proof]{proof{Inclusion: &inclusion}}, err
	})
	a.public(http.MethodGet, "/v1/ledger/key", func(c *gin.Context) { c.String(http.StatusOK, "%s\n", a.Audit.PublicKey()) })
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-ledger-key", Method: http.MethodGet, Path: "/v1/ledger/key", Tags: tags,
		Summary:   "The public key by which checkpoints, certificates, receipts and manifests are checked",
		Responses: map[string]*huma.Response{"200": noteAnswer("A verifier key: name+hash+base64")},
		Security:  []map[string][]string{},
	})
}

func noteAnswer(description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"text/plain": {Schema: anyText}}}
}

func (a *API) leafOf(ctx context.Context, actor access.Actor, entry string, leaf int64) (int64, error) {
	if leaf >= 0 {
		return leaf, nil
	}
	id, err := uuid.Parse(entry)
	if err != nil {
		return 0, invalid.New("query.entry", "expected entry, leaf, or old and new")
	}
	return a.Audit.Leaf(ctx, actor, id)
}
