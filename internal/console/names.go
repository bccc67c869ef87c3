package console

import (
	"strings"

	"github.com/google/uuid"

	"earmark/internal/access"
)

// names are what people and keys are called, by the person that columns keep:
// who approves has to know who asked.
type names struct {
	by map[string]string
	// service is what the service itself is called.
	service string
}

// names reads them. The list of users itself is the administrator's; a name
// beside what somebody did is for everybody who sees what was done.
func (c *Console) names(v *visit) (names, error) {
	ctx, reader := v.Request.Context(), access.System("console.names")
	users, err := c.Access.Users(ctx, reader)
	if err != nil {
		return names{}, err
	}
	keys, err := c.Access.Keys(ctx, reader)
	if err != nil {
		return names{}, err
	}
	all := names{by: map[string]string{}, service: v.lang.say("person.service")}
	for _, k := range keys {
		all.by[personID(k.ID)] = k.Name
	}
	for _, u := range users {
		all.by[personID(u.ID)] = u.Name
	}
	return all, nil
}

func personID(id uuid.UUID) string { return access.Actor{Kind: "user", Person: id}.PersonString() }

// Of is the name of who a column names, by a PersonString or an id; nobody's is
// empty.
func (n names) Of(who any) string {
	switch who := who.(type) {
	case uuid.UUID:
		return n.person(personID(who))
	case *uuid.UUID:
		return n.person(personID(*who))
	case *string:
		return n.person(*who)
	case string:
		return n.person(who)
	}
	return ""
}

func (n names) person(key string) string {
	if name := n.by[key]; name != "" {
		return name
	}
	if strings.HasPrefix(key, "system:") {
		return n.service
	}
	return key
}
