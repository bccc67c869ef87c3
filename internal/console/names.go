package console

import (
	"context"

	"github.com/google/uuid"

	"earmark/internal/access"
)

// names are what people and keys are called, by what columns keep of them: who
// approves has to know who asked.
type names map[string]string

// names reads them. The list of users itself is the administrator's; a name
// beside what somebody did is for everybody who sees what was done.
func (c *Console) names(ctx context.Context) (names, error) {
	reader := access.System("console.names")
	users, err := c.Access.Users(ctx, reader)
	if err != nil {
		return nil, err
	}
	keys, err := c.Access.Keys(ctx, reader)
	if err != nil {
		return nil, err
	}
	all := names{}
	for _, u := range users {
		name := u.Name
		if name == "" {
			name = u.Login
		}
		all["user:"+u.ID.String()] = name
	}
	for _, k := range keys {
		all["key:"+k.ID.String()] = k.Name
	}
	return all, nil
}

// Of is the name of who a column names; nobody is named by an empty one.
func (n names) Of(person any) string {
	var key string
	switch person := person.(type) {
	case string:
		key = person
	case *string:
		if person != nil {
			key = *person
		}
	case uuid.UUID:
		return n.ofID(person)
	case *uuid.UUID:
		if person != nil {
			return n.ofID(*person)
		}
	}
	if name, ok := n[key]; ok {
		return name
	}
	return key
}

func (n names) ofID(id uuid.UUID) string {
	for _, kind := range []string{"user:", "key:"} {
		if name, ok := n[kind+id.String()]; ok {
			return name
		}
	}
	return short(id)
}
