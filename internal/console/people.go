package console

import (
	"net/http"

	"earmark/internal/access"
)

type peoplePage struct {
	Users    []access.User
	Keys     []access.Key
	UserForm form
	KeyForm  form
	Roles    []access.Role
	Bases    []string
	// Once is a secret that is shown this once, Whose it is, and Kind whether
	// it is a "password" or a "key".
	Once, Whose, Kind string
}

func (c *Console) people(v *visit) error { return c.showPeople(v, http.StatusOK, peoplePage{}) }

// newUser is an empty form, with the role that most people have.
var newUser = form{Values: map[string][]string{"role": {string(access.Reviewer)}}}

func (c *Console) showPeople(v *visit, status int, p peoplePage) error {
	ctx := v.Request.Context()
	p.Roles, p.Bases = access.Roles, access.Bases
	if p.UserForm.Values == nil {
		p.UserForm = newUser
	}
	var err error
	if p.Users, err = c.Access.Users(ctx, v.actor); err != nil {
		return err
	}
	if p.Keys, err = c.Access.Keys(ctx, v.actor); err != nil {
		return err
	}
	return v.render(status, "people", "people.title", p)
}

// createUser answers with the page itself, not with a redirect: the one-time
// password is in no address and is shown this once.
func (c *Console) createUser(v *visit) error {
	sent, err := v.sentForm()
	if err != nil {
		return err
	}
	user, oneTime, err := c.Access.CreateUser(v.Request.Context(), v.actor, access.NewUser{
		Login: sent.Get("login"), Name: sent.Get("name"), Role: access.Role(sent.Get("role")), AgentID: sent.Get("agent_id"),
	})
	if err != nil {
		status, err := sent.refuse(err)
		if err != nil {
			return err
		}
		return c.showPeople(v, status, peoplePage{UserForm: sent})
	}
	return c.showPeople(v, http.StatusOK, peoplePage{Once: oneTime, Whose: user.Login, Kind: "password"})
}

func (c *Console) resetPassword(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	oneTime, err := c.Access.ResetPassword(v.Request.Context(), v.actor, id)
	if err != nil {
		return err
	}
	return c.showPeople(v, http.StatusOK, peoplePage{Once: oneTime, Whose: v.field("login"), Kind: "password"})
}

func (c *Console) disableUser(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if err := c.Access.DisableUser(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/people", "user_disabled")
}

func (c *Console) createKey(v *visit) error {
	sent, err := v.sentForm()
	if err != nil {
		return err
	}
	n := access.NewKey{
		Name: sent.Get("name"), Role: access.Role(sent.Get("role")), Source: sent.Get("source"), AgentID: sent.Get("agent_id"),
	}
	if basis := sent.Get("basis.basis"); basis != "" {
		n.Basis = &access.Basis{Basis: basis, Method: sent.Get("basis.method"), Reason: sent.Get("basis.reason")}
	}
	key, secret, err := c.Access.CreateKey(v.Request.Context(), v.actor, n)
	if err != nil {
		status, err := sent.refuse(err)
		if err != nil {
			return err
		}
		return c.showPeople(v, status, peoplePage{KeyForm: sent})
	}
	return c.showPeople(v, http.StatusOK, peoplePage{Once: secret, Whose: key.Name, Kind: "key"})
}

func (c *Console) revokeKey(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if err := c.Access.RevokeKey(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/people", "key_revoked")
}
