package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/db"
)

type keyCommand struct {
	Create keyCreateCommand `cmd:"" help:"Make a key and print its secret, once and alone."`
	List   keyListCommand   `cmd:"" help:"All keys, without their secrets."`
	Revoke keyRevokeCommand `cmd:"" help:"Revoke a key, at once."`
}

type keyCreateCommand struct {
	settings `embed:""`
	Role     access.Role      `required:"" help:"uploader, agent, reviewer, supervisor, records_officer, privacy_officer, auditor or admin."`
	Name     string           `required:"" help:"What people know it by."`
	Source   string           `help:"For an uploader: the only source it may name."`
	AgentID  string           `name:"agent-id" help:"The id of the agent for whom it acts."`
	Basis    string           `help:"For an uploader: the lawful basis of all it sends: consent, contract, legal_obligation, vital_interests, public_task or legitimate_interests."`
	Method   string           `help:"How the basis was given, such as announcement."`
	Purposes []access.Purpose `help:"The purposes that the basis covers; its defaults when left out."`
	Reason   string           `help:"Why the basis holds, where it is not consent."`
	Expires  time.Duration    `help:"How long the key is good for; for ever when left out."`
}

func (c *keyCreateCommand) Help() string {
	return `  earmark key create --role reviewer --name desk-1
  earmark key create --role uploader --name pbx --source pbx --basis consent --method announcement`
}

// Run prints the secret alone, so that a script can keep it.
func (c *keyCreateCommand) Run(ctx context.Context, o *output) error {
	n := access.NewKey{Name: c.Name, Role: c.Role, Source: c.Source, AgentID: c.AgentID}
	if c.Basis != "" {
		n.Basis = &access.Basis{Basis: c.Basis, Method: c.Method, Purposes: c.Purposes, Reason: c.Reason}
	}
	if c.Expires > 0 {
		at := time.Now().Add(c.Expires)
		n.ExpiresAt = &at
	}
	return c.withAccess(ctx, func(a *access.Access) error {
		_, secret, err := a.CreateKey(ctx, access.System("command_line"), n)
		if err != nil {
			return err
		}
		fmt.Fprintln(o.out, secret)
		return nil
	})
}

type keyListCommand struct {
	settings `embed:""`
	JSON     bool `name:"json" help:"As JSON."`
}

// Run lists the keys.
func (c *keyListCommand) Run(ctx context.Context, o *output) error {
	return c.withAccess(ctx, func(a *access.Access) error {
		keys, err := a.Keys(ctx, access.System("command_line"))
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(o, keys)
		}
		table := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tROLE\tNAME\tSOURCE\tCREATED\tSTATE")
		for _, k := range keys {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Role, k.Name, k.Source,
				k.CreatedAt.Format(time.DateOnly), stateOf(k.RevokedAt, k.ExpiresAt))
		}
		return table.Flush()
	})
}

func stateOf(revoked, expires *time.Time) string {
	switch {
	case revoked != nil:
		return "revoked"
	case expires != nil && expires.Before(time.Now()):
		return "expired"
	default:
		return "active"
	}
}

type keyRevokeCommand struct {
	settings `embed:""`
	ID       uuid.UUID `arg:"" help:"The key's id, as earmark key list shows it."`
}

// Run revokes a key.
func (c *keyRevokeCommand) Run(ctx context.Context, _ *output) error {
	return c.withAccess(ctx, func(a *access.Access) error {
		return a.RevokeKey(ctx, access.System("command_line"), c.ID)
	})
}

// withAccess opens the database of the service that runs on these settings.
func (s settings) withAccess(ctx context.Context, fn func(*access.Access) error) error {
	s, err := s.found()
	if err != nil {
		return err
	}
	if err := db.CheckSchema(ctx, s.DatabaseURL); err != nil {
		return err
	}
	d, err := db.Open(ctx, s.DatabaseURL, db.Options{MaxConns: 2})
	if err != nil {
		return err
	}
	defer d.Close()
	return fn(access.New(d))
}

func printJSON(o *output, v any) error {
	encoder := json.NewEncoder(o.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

type userCommand struct {
	Create userCreateCommand `cmd:"" help:"Make a user and print the one-time password."`
	List   userListCommand   `cmd:"" help:"All users."`
	Reset  userResetCommand  `cmd:"" help:"Give a user a new one-time password and print it."`
}

type userCreateCommand struct {
	settings `embed:""`
	Login    string      `arg:"" help:"What they sign in with."`
	Role     access.Role `required:"" help:"agent, reviewer, supervisor, records_officer, privacy_officer, auditor or admin."`
	Name     string      `help:"Their name; the login when left out."`
	AgentID  string      `name:"agent-id" help:"The id under which their own calls are recorded."`
}

func (c *userCreateCommand) Help() string {
	return `  earmark user create lan --role reviewer --name "Nguyễn Thị Lan"
  earmark user create minh --role agent --agent-id 3201`
}

// Run prints the one-time password alone.
func (c *userCreateCommand) Run(ctx context.Context, o *output) error {
	name := c.Name
	if name == "" {
		name = c.Login
	}
	return c.withAccess(ctx, func(a *access.Access) error {
		_, oneTime, err := a.CreateUser(ctx, access.System("command_line"),
			access.NewUser{Login: c.Login, Name: name, Role: c.Role, AgentID: c.AgentID})
		if err != nil {
			return err
		}
		fmt.Fprintln(o.out, oneTime)
		return nil
	})
}

type userListCommand struct {
	settings `embed:""`
	JSON     bool `name:"json" help:"As JSON."`
}

// Run lists the users.
func (c *userListCommand) Run(ctx context.Context, o *output) error {
	return c.withAccess(ctx, func(a *access.Access) error {
		users, err := a.Users(ctx, access.System("command_line"))
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(o, users)
		}
		table := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tLOGIN\tROLE\tNAME\tSTATE")
		for _, u := range users {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", u.ID, u.Login, u.Role, u.Name, stateOf(u.DisabledAt, nil))
		}
		return table.Flush()
	})
}

type userResetCommand struct {
	settings `embed:""`
	Login    string `arg:"" help:"Whose."`
}

var errNoUser = errors.New("there is no user of that login")

// Run prints the new one-time password alone.
func (c *userResetCommand) Run(ctx context.Context, o *output) error {
	return c.withAccess(ctx, func(a *access.Access) error {
		system := access.System("command_line")
		users, err := a.Users(ctx, system)
		if err != nil {
			return err
		}
		for _, u := range users {
			if u.Login != c.Login {
				continue
			}
			oneTime, err := a.ResetPassword(ctx, system, u.ID)
			if err != nil {
				return err
			}
			fmt.Fprintln(o.out, oneTime)
			return nil
		}
		return errNoUser
	})
}
