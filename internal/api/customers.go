package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/consent"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
)

type list[T any] struct {
	Items []T `json:"items"`
}

func (a *API) customers() {
	tags := []string{"customers"}
	type findInput struct {
		ListInput
		Text string `query:"q" maxLength:"255" doc:"A number in any form or its last digits, an e-mail address, an id, or words of a name"`
	}
	route(a, needs{access.ReadCustomers}, huma.Operation{
		OperationID: "find-customers", Method: http.MethodGet, Path: "/v1/customers", Tags: tags,
		Summary: "Find customers",
	}, func(ctx context.Context, actor access.Actor, in *findInput) (*body[consent.Page[consent.Customer]], error) {
		page, err := a.Consent.Customers(ctx, actor, consent.Query{Text: in.Text, Limit: in.Limit, Cursor: in.Cursor})
		return &body[consent.Page[consent.Customer]]{page}, err
	})
	route(a, needs{access.ReadCustomers}, huma.Operation{
		OperationID: "get-customer", Method: http.MethodGet, Path: "/v1/customers/{id}", Tags: tags,
		Summary: "Read a customer",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[consent.Customer], error) {
		customer, err := a.Consent.Customer(ctx, actor, in.ID)
		return &body[consent.Customer]{customer}, err
	})
	route(a, needs{access.ReadCustomers}, huma.Operation{
		OperationID: "list-consents", Method: http.MethodGet, Path: "/v1/customers/{id}/consents", Tags: tags,
		Summary: "What a customer agreed to, refused and withdrew, newest first",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[list[consent.Recorded]], error) {
		recorded, err := a.Consent.Consents(ctx, actor, in.ID)
		return &body[list[consent.Recorded]]{list[consent.Recorded]{recorded}}, err
	})
	type recordInput struct {
		ByID
		Body consent.Statement
	}
	route(a, needs{access.RecordConsent}, huma.Operation{
		OperationID: "record-consent", Method: http.MethodPost, Path: "/v1/customers/{id}/consents", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Append what a customer agreed to, refused or withdrew",
		Description: "A grant releases what waited for it in quarantine; a withdrawal closes its purposes at once.",
	}, func(ctx context.Context, actor access.Actor, in *recordInput) (*body[consent.Recorded], error) {
		recorded, err := a.Consent.Record(ctx, actor, in.ID, in.Body)
		return &body[consent.Recorded]{recorded}, err
	})

	type basisInput struct {
		Source string `path:"source" maxLength:"255" doc:"The source, as interactions name it"`
		Body   access.Basis
	}
	route(a, needs{access.RecordConsent}, huma.Operation{
		OperationID: "set-source-basis", Method: http.MethodPut, Path: "/v1/sources/{source}/basis", Tags: tags,
		Summary:     "Say on which basis all stands that a source sends",
		Description: "Such as the announcement that every caller hears. Releases what waited for it in quarantine.",
	}, func(ctx context.Context, actor access.Actor, in *basisInput) (*body[consent.SourceBasis], error) {
		basis, err := a.Consent.SetSourceBasis(ctx, actor, in.Source, in.Body)
		return &body[consent.SourceBasis]{basis}, err
	})
	route(a, needs{access.RecordConsent}, huma.Operation{
		OperationID: "list-source-bases", Method: http.MethodGet, Path: "/v1/sources", Tags: tags,
		Summary: "The standing bases of all sources",
	}, func(ctx context.Context, actor access.Actor, _ *struct{}) (*body[list[consent.SourceBasis]], error) {
		bases, err := a.Consent.SourceBases(ctx, actor)
		return &body[list[consent.SourceBasis]]{list[consent.SourceBasis]{bases}}, err
	})

	a.erasures(tags)
}

func (a *API) erasures(tags []string) {
	type eraseInput struct {
		Body struct {
			CustomerID *uuid.UUID `json:"customer_id,omitempty" doc:"The customer's id"`
			Customer   string     `json:"customer,omitempty" maxLength:"255" doc:"Or a number or e-mail address that is one customer's"`
			Reason     string     `json:"reason" maxLength:"1000" doc:"On whose word"`
		}
	}
	route(a, needs{access.RequestErasure}, huma.Operation{
		OperationID: "request-erasure", Method: http.MethodPost, Path: "/v1/erasure-requests", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Erase everything of a customer, on the customer's word",
		Description: "What a hold keeps is restricted and goes by itself when the hold is released.",
	}, func(ctx context.Context, actor access.Actor, in *eraseInput) (*body[lifecycle.Erasure], error) {
		customer, err := a.oneCustomer(ctx, actor, in.Body.CustomerID, in.Body.Customer)
		if err != nil {
			return nil, err
		}
		erasure, err := a.Lifecycle.Erase(ctx, actor, customer, in.Body.Reason)
		return &body[lifecycle.Erasure]{erasure}, err
	})
	readsErasures := needs{access.ReadLifecycle, access.RequestErasure}
	route(a, readsErasures, huma.Operation{
		OperationID: "list-erasure-requests", Method: http.MethodGet, Path: "/v1/erasure-requests", Tags: tags,
		Summary: "Requests for erasure, newest first",
	}, func(ctx context.Context, actor access.Actor, in *StateListInput) (*body[archive.Page[lifecycle.Erasure]], error) {
		page, err := a.Lifecycle.Erasures(ctx, actor, in.list())
		return &body[archive.Page[lifecycle.Erasure]]{page}, err
	})
	route(a, readsErasures, huma.Operation{
		OperationID: "get-erasure-request", Method: http.MethodGet, Path: "/v1/erasure-requests/{id}", Tags: tags,
		Summary: "Read a request for erasure",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*body[lifecycle.Erasure], error) {
		erasure, err := a.Lifecycle.Erasure(ctx, actor, in.ID)
		return &body[lifecycle.Erasure]{erasure}, err
	})
}

// oneCustomer is the customer that a request names, by id or as people know
// them; a name that is several people's is not guessed at.
func (a *API) oneCustomer(ctx context.Context, actor access.Actor, id *uuid.UUID, name string) (uuid.UUID, error) {
	switch {
	case id != nil:
		return *id, nil
	case name == "":
		return uuid.Nil, invalid.New("body.customer_id", "expected customer_id, or customer with a number or e-mail address")
	default:
		return a.Consent.Named(ctx, actor, name, "body.customer")
	}
}
