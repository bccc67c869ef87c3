package access

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// NewUser is what a user is to be.
type NewUser struct {
	// Login is what they sign in with; upper and lower case are the same.
	Login string `json:"login"`
	Name  string `json:"name"`
	Role  Role   `json:"role"`
	// AgentID is the id under which their own calls are recorded, if they
	// take calls: nobody reviews their own.
	AgentID string `json:"agent_id,omitempty"`
	// Password, when empty, is made, and to be changed at the first sign-in.
	Password string `json:"password,omitempty"`
}

// User is a person who signs in.
type User struct {
	ID                 uuid.UUID  `json:"id"`
	Login              string     `json:"login"`
	Name               string     `json:"name"`
	Role               Role       `json:"role"`
	AgentID            string     `json:"agent_id,omitempty"`
	MustChangePassword bool       `json:"must_change_password,omitempty"`
	CreatedAt          time.Time  `json:"created_at"`
	DisabledAt         *time.Time `json:"disabled_at,omitempty"`
}

// CreateUser makes a user, and a one-time password where none was given; it is
// shown this once. It needs ManageAccess. Errors: ErrForbidden,
// *invalid.Error, also for a login that is taken.
func (a *Access) CreateUser(ctx context.Context, actor Actor, n NewUser) (u User, oneTime string, err error) {
	if err := actor.May(ManageAccess); err != nil {
		return User{}, "", err
	}
	n.Login, n.Name = foldLogin(n.Login), norm.NFC.String(strings.TrimSpace(n.Name))
	if n.Name == "" {
		n.Name = n.Login
	}
	password := n.Password
	if password == "" {
		oneTime = oneTimePassword()
		password = oneTime
	}
	if err := n.check(password); err != nil {
		return User{}, "", err
	}
	hash, err := a.passwords.hash(ctx, password)
	if err != nil {
		return User{}, "", fmt.Errorf("create user: %w", err)
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		u = User{
			ID: tx.NewID(), Login: n.Login, Name: n.Name, Role: n.Role, AgentID: n.AgentID,
			MustChangePassword: oneTime != "", CreatedAt: tx.Now,
		}
		tx.Record(ledger.Entry{
			Actor: actor.String(), Action: "user.created", Subject: u.subject(),
			Details: map[string]any{"role": string(u.Role)},
		})
		return u.insert(ctx, tx, hash)
	})
	if violates(err, "users_login_key") {
		return User{}, "", invalid.New("body.login", "taken: choose another")
	}
	if err != nil {
		return User{}, "", fmt.Errorf("create user: %w", err)
	}
	return u, oneTime, nil
}

// foldLogin returns no login at all for what cannot be one.
func foldLogin(login string) string {
	if !utf8.ValidString(login) || strings.ContainsRune(login, 0) {
		return ""
	}
	return strings.ToLower(norm.NFC.String(strings.TrimSpace(login)))
}

func (n NewUser) check(password string) error {
	e := &invalid.Error{}
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	if n.Login == "" || strings.ContainsFunc(n.Login, blank) {
		e.Add("body.login", "a word without spaces, such as an e-mail address")
	}
	checkText(e, "body.login", n.Login, maxName)
	checkName(e, "body.name", n.Name)
	checkRole(e, "body.role", n.Role)
	checkText(e, "body.agent_id", n.AgentID, maxName)
	checkPassword(e, "body.password", password, n.Login)
	return e.Err()
}

func (u User) subject() string { return "user:" + u.ID.String() }

func (u User) insert(ctx context.Context, tx *db.Tx, hash string) error {
	// The database folds once more: its idea of lower case is the one that is checked.
	_, err := tx.Exec(ctx, `
		insert into users (id, login, name, role, agent_id, password_hash, password_set_at,
		                   must_change_password, created_at)
		values ($1, lower($2), $3, $4, nullif($5, ''), $6, $8, $7, $8)`,
		u.ID, u.Login, u.Name, u.Role, u.AgentID, hash, u.MustChangePassword, u.CreatedAt)
	return err
}

// Users are all users, disabled ones too, by login. It needs ManageAccess.
func (a *Access) Users(ctx context.Context, actor Actor) ([]User, error) {
	if err := actor.May(ManageAccess); err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, `
		select id, login, name, role, coalesce(agent_id, ''), must_change_password, created_at, disabled_at
		from users order by login`)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	users, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u User, err error) {
		err = row.Scan(&u.ID, &u.Login, &u.Name, &u.Role, &u.AgentID, &u.MustChangePassword, &u.CreatedAt, &u.DisabledAt)
		return u, err
	})
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// SetPassword changes the actor's own password and ends all their sessions.
// Errors: ErrForbidden (somebody else's), ErrTooManyAttempts, *invalid.Error,
// also for a wrong old password.
func (a *Access) SetPassword(ctx context.Context, actor Actor, id uuid.UUID, old, password string) error {
	if actor.Kind != "user" || actor.ID != id {
		return ErrForbidden
	}
	known, err := a.credentials(ctx, `id = $1`, id)
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	right, _, err := a.try(ctx, known.Login, old, known.hash)
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if !right {
		return invalid.New("body.old_password", "the password in use until now")
	}
	e := &invalid.Error{}
	checkPassword(e, "body.new_password", password, known.Login)
	if err := e.Err(); err != nil {
		return err
	}
	if err := a.changePassword(ctx, actor, id, password, "user.password_changed"); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	a.attempts.forget(known.Login)
	return nil
}

// ResetPassword gives a user a new one-time password, shown this once and to
// be changed at the next sign-in, and ends their sessions. It needs
// ManageAccess. Errors: ErrForbidden, db.ErrNotFound.
func (a *Access) ResetPassword(ctx context.Context, actor Actor, id uuid.UUID) (oneTime string, err error) {
	if err := actor.May(ManageAccess); err != nil {
		return "", err
	}
	oneTime = oneTimePassword()
	if err := a.changePassword(ctx, actor, id, oneTime, "user.password_reset"); err != nil {
		return "", fmt.Errorf("reset password: %w", err)
	}
	return oneTime, nil
}

func (a *Access) changePassword(ctx context.Context, actor Actor, id uuid.UUID, password, action string) error {
	hash, err := a.passwords.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		mustChange := action == "user.password_reset"
		changed, err := tx.Exec(ctx, `
			update users set password_hash = $2, must_change_password = $3, password_set_at = $4
			where id = $1`, id, hash, mustChange, tx.Now)
		if err != nil {
			return err
		}
		if changed.RowsAffected() == 0 {
			return db.ErrNotFound
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: action, Subject: "user:" + id.String()})
		return endSessions(ctx, tx, id)
	})
}

// DisableUser locks a user out at once: their sessions end and their own keys
// stop working. Doing it again changes nothing. It needs ManageAccess; nobody
// disables themselves. Errors: ErrForbidden, db.ErrNotFound.
func (a *Access) DisableUser(ctx context.Context, actor Actor, id uuid.UUID) error {
	if err := actor.May(ManageAccess); err != nil {
		return err
	}
	if actor.Person == id {
		return fmt.Errorf("disable user: %w: somebody else must disable you", ErrForbidden)
	}
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		var disabled bool
		err := tx.QueryRow(ctx, `select disabled_at is not null from users where id = $1 for update`, id).Scan(&disabled)
		if err != nil || disabled {
			return db.Found(err)
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "user.disabled", Subject: "user:" + id.String()})
		if _, err := tx.Exec(ctx, `update users set disabled_at = $2 where id = $1`, id, tx.Now); err != nil {
			return err
		}
		return endSessions(ctx, tx, id)
	})
	if err != nil {
		return fmt.Errorf("disable user: %w", err)
	}
	return nil
}
