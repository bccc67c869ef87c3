package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"earmark/internal/access"
)

func (a *API) access() {
	tags := []string{"access"}
	type me struct {
		ID       uuid.UUID        `json:"id"`
		Kind     string           `json:"kind" doc:"user or key"`
		Name     string           `json:"name"`
		Role     access.Role      `json:"role"`
		Actions  []access.Action  `json:"actions"`
		Purposes []access.Purpose `json:"purposes"`
	}
	route(a, anybody, huma.Operation{
		OperationID: "get-me", Method: http.MethodGet, Path: "/v1/me", Tags: tags,
		Summary: "Who is asking, and what they may do",
	}, func(_ context.Context, actor access.Actor, _ *struct{}) (*body[me], error) {
		return &body[me]{me{ID: actor.ID, Kind: actor.Kind, Name: actor.Name, Role: actor.Role,
			Actions: actor.Role.Actions(), Purposes: actor.Role.Purposes()}}, nil
	})
	type purpose struct {
		Purpose access.Purpose `json:"purpose"`
		Roles   []access.Role  `json:"roles" doc:"The roles that may use it"`
	}
	route(a, anybody, huma.Operation{
		OperationID: "list-purposes", Method: http.MethodGet, Path: "/v1/purposes", Tags: tags,
		Summary: "The purposes for which recordings may be heard, and by which roles",
	}, func(_ context.Context, _ access.Actor, _ *struct{}) (*body[list[purpose]], error) {
		var out list[purpose]
		for _, p := range access.Purposes {
			out.Items = append(out.Items, purpose{p, access.RolesFor(p)})
		}
		return &body[list[purpose]]{out}, nil
	})
	a.users(tags)
	a.keys(tags)
}

func (a *API) users(tags []string) {
	route(a, needs{access.ManageAccess}, huma.Operation{
		OperationID: "list-users", Method: http.MethodGet, Path: "/v1/users", Tags: tags,
		Summary: "All users",
	}, func(ctx context.Context, actor access.Actor, _ *struct{}) (*body[list[access.User]], error) {
		users, err := a.Access.Users(ctx, actor)
		return &body[list[access.User]]{list[access.User]{users}}, err
	})
	type createInput struct{ Body access.NewUser }
	type newUser struct {
		access.User
		OneTimePassword string `json:"one_time_password,omitempty" doc:"Shown once; to be changed at the first sign-in"`
	}
	route(a, needs{access.ManageAccess}, huma.Operation{
		OperationID: "create-user", Method: http.MethodPost, Path: "/v1/users", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Make a user; without a password, a one-time password is made",
	}, func(ctx context.Context, actor access.Actor, in *createInput) (*body[newUser], error) {
		user, oneTime, err := a.Access.CreateUser(ctx, actor, in.Body)
		return &body[newUser]{newUser{user, oneTime}}, err
	})
	route(a, needs{access.ManageAccess}, huma.Operation{
		OperationID: "disable-user", Method: http.MethodPost, Path: "/v1/users/{id}/disable", Tags: tags, DefaultStatus: http.StatusNoContent,
		Summary: "Shut a user out: their sessions and keys end at once",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*struct{}, error) {
		return &struct{}{}, a.Access.DisableUser(ctx, actor, in.ID)
	})
}

func (a *API) keys(tags []string) {
	route(a, needs{access.ManageAccess}, huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: "/v1/api-keys", Tags: tags,
		Summary: "All API keys, without their secrets",
	}, func(ctx context.Context, actor access.Actor, _ *struct{}) (*body[list[access.Key]], error) {
		keys, err := a.Access.Keys(ctx, actor)
		return &body[list[access.Key]]{list[access.Key]{keys}}, err
	})
	type createInput struct{ Body access.NewKey }
	type newKey struct {
		access.Key
		Secret string `json:"secret" doc:"Shown once"`
	}
	route(a, needs{access.ManageAccess}, huma.Operation{
		OperationID: "create-key", Method: http.MethodPost, Path: "/v1/api-keys", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Make an API key; its secret is shown once",
	}, func(ctx context.Context, actor access.Actor, in *createInput) (*body[newKey], error) {
		key, secret, err := a.Access.CreateKey(ctx, actor, in.Body)
		return &body[newKey]{newKey{key, secret}}, err
	})
	route(a, needs{access.ManageAccess}, huma.Operation{
		OperationID: "revoke-key", Method: http.MethodDelete, Path: "/v1/api-keys/{id}", Tags: tags, DefaultStatus: http.StatusNoContent,
		Summary: "Revoke an API key, at once",
	}, func(ctx context.Context, actor access.Actor, in *ByID) (*struct{}, error) {
		return &struct{}{}, a.Access.RevokeKey(ctx, actor, in.ID)
	})
}
