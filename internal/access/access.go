// Package access says who asks and what they may do: people with sessions,
// machines with API keys, their roles, and the purposes for which a role may
// hear what customers said.
package access

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Why access is refused.
var (
	// ErrUnauthenticated: no key or session, or one that is unknown, expired or revoked.
	ErrUnauthenticated = errors.New("a valid API key or session is needed")
	// ErrForbidden: the role does not include the action.
	ErrForbidden = errors.New("this role may not do that")
	// ErrPurposeRequired: listening and reading need a stated purpose.
	ErrPurposeRequired = errors.New("a purpose is needed")
	// ErrPurposeNotPermitted: the role may not listen or read for this purpose.
	ErrPurposeNotPermitted = errors.New("this role may not use that purpose")
	// ErrSamePerson: what one person asked for, another must approve.
	ErrSamePerson = errors.New("another person must approve this")
)

// Actor is whoever asks for an operation.
type Actor struct {
	// Kind is "user", "key" or "system".
	Kind string
	// ID is the user's or key's; for the system, uuid.Nil.
	ID uuid.UUID
	// Person is who stands behind it: the user, the user whose key it is, or
	// the key itself where it is nobody's own. Two people are two Persons.
	Person uuid.UUID
	// Name is for pages, never for logs or the ledger; for the system, the duty.
	Name string
	Role Role
	// AgentID is the id under which this person's own calls are recorded.
	AgentID string
	// Source, when not empty, is the only source an uploader may name.
	Source string
	// Basis, when not nil, is the lawful basis of all that this key sends.
	Basis *Basis
	// MustChangePassword: the user signed in with a password made for one
	// sign-in, and should be shown nothing but where to change it.
	MustChangePassword bool
}

// Basis is a lawful basis for recording and the purposes that it covers.
type Basis struct {
	// Basis is consent, contract, legal_obligation, vital_interests,
	// public_task or legitimate_interests.
	Basis string `json:"basis"`
	// Method is how it was given, such as announcement, verbal or web_form.
	Method   string    `json:"method,omitempty"`
	Purposes []Purpose `json:"purposes,omitempty"`
	// Reason is needed where the basis is not consent.
	Reason string `json:"reason,omitempty"`
}

// System is the actor of the service's own duties, such as "retention.sweep".
func System(duty string) Actor {
	return Actor{Kind: "system", Name: duty, Role: system}
}

// String names the actor in the ledger and in columns that keep who did
// something: "user:<id>", "key:<id>" or "system:<duty>". It holds no name.
func (a Actor) String() string {
	if a.Kind == "system" {
		return "system:" + a.Name
	}
	return a.Kind + ":" + a.ID.String()
}

// PersonString names who stands behind the actor, for the rule of two people.
func (a Actor) PersonString() string {
	if a.Kind == "system" {
		return a.String()
	}
	return "person:" + a.Person.String()
}

// May returns nil when the actor's role includes the action, else ErrForbidden;
// nobody may anything before they have changed a one-time password.
func (a Actor) May(action Action) error {
	if a.MustChangePassword {
		return fmt.Errorf("%w: change the one-time password first", ErrForbidden)
	}
	if a.Role == system || slices.Contains(roles[a.Role].actions, action) {
		return nil
	}
	return ErrForbidden
}

// MayFor returns nil when the actor may do the action for the purpose, else
// ErrForbidden, ErrPurposeRequired or ErrPurposeNotPermitted.
func (a Actor) MayFor(action Action, purpose Purpose) error {
	if err := a.May(action); err != nil {
		return err
	}
	if purpose == "" {
		return ErrPurposeRequired
	}
	if !slices.Contains(roles[a.Role].purposes, purpose) {
		return ErrPurposeNotPermitted
	}
	return nil
}

// Approves returns nil when a may approve what was asked for by the person
// that requestedBy names (a PersonString), else ErrSamePerson.
func (a Actor) Approves(requestedBy string) error {
	if a.PersonString() == requestedBy {
		return ErrSamePerson
	}
	return nil
}
