package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/db"
	"earmark/internal/ledger"
)

// ErrTooManyAttempts says that this login was tried too often; a minute's wait helps.
var ErrTooManyAttempts = errors.New("too many attempts at this login: wait a minute")

// SessionLength is how long a session lasts, used or not.
const SessionLength = 12 * time.Hour

// SignIn opens a session of SessionLength for whoever knows the password. The
// token, 32 random bytes in base64url, is for the browser's cookie alone: its
// SHA-256 is kept. mustChange says that the password was made for one sign-in.
//
// Errors: ErrUnauthenticated for an unknown login, a wrong password and a
// disabled user alike, after the same time; ErrTooManyAttempts.
func (a *Access) SignIn(ctx context.Context, login, password string) (token string, actor Actor, mustChange bool, err error) {
	login = foldLogin(login)
	known, err := a.credentials(ctx, `login = lower($1) and disabled_at is null`, login)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return "", Actor{}, false, fmt.Errorf("sign in: %w", err)
	}
	right, weak, err := a.try(ctx, login, password, known.hash)
	if err != nil {
		return "", Actor{}, false, fmt.Errorf("sign in: %w", err)
	}
	if !right {
		return "", Actor{}, false, a.refuse(ctx, known.User)
	}
	a.attempts.forget(login)
	if weak {
		if err := a.strengthen(ctx, known, password); err != nil {
			return "", Actor{}, false, fmt.Errorf("sign in: %w", err)
		}
	}
	actor = known.actor()
	if token, err = a.open(ctx, known); err != nil {
		return "", Actor{}, false, fmt.Errorf("sign in: %w", err)
	}
	return token, actor, known.MustChangePassword, nil
}

// credentials are a user with what their password is compared with.
type credentials struct {
	User
	hash  string
	setAt time.Time
}

// credentials reads the user whom the condition on $1 names; db.ErrNotFound
// comes with empty ones, against which every password is wrong.
func (a *Access) credentials(ctx context.Context, condition string, arg any) (c credentials, err error) {
	err = a.db.QueryRow(ctx, `
		select id, login, name, role, coalesce(agent_id, ''), must_change_password,
		       password_hash, password_set_at
		from users where `+condition, arg).
		Scan(&c.ID, &c.Login, &c.Name, &c.Role, &c.AgentID, &c.MustChangePassword, &c.hash, &c.setAt)
	return c, db.Found(err)
}

func (u User) actor() Actor {
	return Actor{
		Kind: "user", ID: u.ID, Person: u.ID, Name: u.Name, Role: u.Role, AgentID: u.AgentID,
		MustChangePassword: u.MustChangePassword,
	}
}

// try compares one password, if the login was not tried too often.
func (a *Access) try(ctx context.Context, login, password, hash string) (right, weak bool, err error) {
	if !a.attempts.allow(login, a.db.Now()) {
		return false, false, ErrTooManyAttempts
	}
	if len(password) > maxPassword {
		password = ""
	}
	return a.passwords.matches(ctx, password, hash)
}

// refuse leaves word of a refused sign-in, at a login that is u's or nobody's.
func (a *Access) refuse(ctx context.Context, u User) error {
	entry := ledger.Entry{Actor: System("sign_in").String(), Action: "session.refused", Subject: "user"}
	if u.ID != uuid.Nil {
		entry.Subject = u.subject()
	}
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		tx.Record(entry)
		return nil
	})
	if err != nil {
		return fmt.Errorf("record a refused sign-in: %w", err)
	}
	return ErrUnauthenticated
}

// strengthen hashes the password again at today's cost, unless it was changed
// meanwhile.
func (a *Access) strengthen(ctx context.Context, known credentials, password string) error {
	hash, err := a.passwords.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `
			update users set password_hash = $3 where id = $1 and password_hash = $2`, known.ID, known.hash, hash)
		return err
	})
}

// open opens a session, unless the user was disabled or given another password
// since theirs was compared: what ends their sessions would miss this one.
func (a *Access) open(ctx context.Context, known credentials) (token string, err error) {
	token = newToken()
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		opened, err := tx.Exec(ctx, `
			with who as (
				select id from users where id = $2 and password_set_at = $3 and disabled_at is null for share
			)
			insert into sessions (token_hash, user_id, created_at, expires_at)
			select $1, id, $4, $5 from who`,
			tokenHash(token), known.ID, known.setAt, tx.Now, tx.Now.Add(SessionLength))
		if err != nil {
			return err
		}
		if opened.RowsAffected() == 0 {
			return ErrUnauthenticated
		}
		tx.Record(ledger.Entry{Actor: known.subject(), Action: "session.opened", Subject: known.subject()})
		return nil
	})
	return token, err
}

// AuthenticateSession returns whose session the token opened, as they are now,
// or ErrUnauthenticated: there is none, it is over, or the user is disabled.
func (a *Access) AuthenticateSession(ctx context.Context, token string) (Actor, error) {
	var u User
	err := a.db.QueryRow(ctx, `
		select u.id, u.name, u.role, coalesce(u.agent_id, ''), u.must_change_password
		from sessions s join users u on u.id = s.user_id
		where s.token_hash = $1 and s.expires_at > $2 and u.disabled_at is null`, tokenHash(token), a.db.Now()).
		Scan(&u.ID, &u.Name, &u.Role, &u.AgentID, &u.MustChangePassword)
	if errors.Is(err, pgx.ErrNoRows) {
		return Actor{}, ErrUnauthenticated
	}
	if err != nil {
		return Actor{}, fmt.Errorf("authenticate session: %w", err)
	}
	return u.actor(), nil
}

// SignOut ends the session; one that is over already is no error.
func (a *Access) SignOut(ctx context.Context, token string) error {
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `delete from sessions where token_hash = $1`, tokenHash(token))
		return err
	})
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// PurgeExpiredSessions removes the rows of sessions that are over.
func (a *Access) PurgeExpiredSessions(ctx context.Context) error {
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `delete from sessions where expires_at <= $1`, tx.Now)
		return err
	})
	if err != nil {
		return fmt.Errorf("purge expired sessions: %w", err)
	}
	return nil
}

func endSessions(ctx context.Context, tx *db.Tx, user uuid.UUID) error {
	_, err := tx.Exec(ctx, `delete from sessions where user_id = $1`, user)
	return err
}
