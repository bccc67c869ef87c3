package console

import (
	"errors"
	"net/http"
	"strconv"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
)

type policiesPage struct {
	Policies   []lifecycle.Policy
	Form       form
	Channels   []string
	Directions []string
	Names      names
	actor      access.Actor
}

// Same says that the actor cannot approve what waits at the policy, having
// asked for it.
func (p policiesPage) Same(policy lifecycle.Policy) bool {
	asked := policy.ProposedBy
	if policy.RetirementRequestedBy != nil {
		asked = *policy.RetirementRequestedBy
	}
	return errors.Is(p.actor.Approves(asked), access.ErrSamePerson)
}

// Everything is the match of a policy for all.
func (p policiesPage) Everything() lifecycle.Match { return lifecycle.Match{} }

func (c *Console) policies(v *visit) error { return c.showPolicies(v, http.StatusOK, form{}) }

func (c *Console) showPolicies(v *visit, status int, f form) error {
	p := policiesPage{Form: f, Channels: archive.Channels, Directions: archive.Directions, actor: v.actor}
	var err error
	if p.Policies, err = c.Lifecycle.Policies(v.Request.Context(), v.actor); err != nil {
		return err
	}
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.render(status, "policies", "policies.title", p)
}

func (c *Console) proposePolicy(v *visit) error {
	sent, err := v.sentForm()
	if err != nil {
		return err
	}
	n, err := readPolicy(sent)
	if err == nil {
		_, err = c.Lifecycle.ProposePolicy(v.Request.Context(), v.actor, n)
	}
	if err != nil {
		status, err := sent.refuse(err)
		if err != nil {
			return err
		}
		return c.showPolicies(v, status, sent)
	}
	return v.done("/policies", "policy_proposed")
}

// readPolicy reads a policy; without days it keeps until erasure is asked for.
func readPolicy(f form) (lifecycle.NewPolicy, error) {
	n := lifecycle.NewPolicy{Name: f.Get("name"), Match: lifecycle.Match{
		Channel: f.Get("match.channel"), Queue: f.Get("match.queue"), Direction: f.Get("match.direction"),
		Disposition: f.Get("match.disposition"), Tag: f.Get("match.tag"),
	}}
	wrong := &invalid.Error{}
	if text := f.Get("keep_days"); text != "" {
		days, err := strconv.Atoi(text)
		if err != nil {
			wrong.Add("body.keep_days", "a number of days")
		}
		n.KeepDays = &days
	}
	if text := f.Get("priority"); text != "" {
		var err error
		if n.Priority, err = strconv.Atoi(text); err != nil {
			wrong.Add("body.priority", "a whole number")
		}
	}
	return n, wrong.Err()
}

func (c *Console) approvePolicy(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, err := c.Lifecycle.ApprovePolicy(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/policies", "policy_approved")
}

// retirePolicy takes a policy out of force, or asks for it where that takes two.
func (c *Console) retirePolicy(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	p, err := c.Lifecycle.RetirePolicy(v.Request.Context(), v.actor, id)
	if err != nil {
		return err
	}
	if p.State == "active" {
		return v.done("/policies", "retirement_requested")
	}
	return v.done("/policies", "policy_retired")
}
