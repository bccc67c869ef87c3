package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// Access knows the users, their sessions and the API keys. It is safe for
// concurrent use.
type Access struct {
	db        *db.DB
	passwords *passwords
	attempts  *attempts
}

// New returns the feature over d.
func New(d *db.DB) *Access {
	return &Access{db: d, passwords: newPasswords(normalCost), attempts: newAttempts()}
}

// NewKey is what a key is to be.
type NewKey struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Source, for an uploader's key, is the only source it may name; empty: any.
	Source string `json:"source,omitempty"`
	// AgentID is the id of the agent for whom it acts.
	AgentID string `json:"agent_id,omitempty"`
	// User is the person whose key it is: what they may not do with a second
	// hand, they may not do with this key. Nil: a machine's.
	User *uuid.UUID `json:"user_id,omitempty"`
	// Basis, for an uploader's key, is the lawful basis of all that it sends.
	Basis     *Basis     `json:"basis,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Key is an API key without its secret, which only its holder knows.
type Key struct {
	ID        uuid.UUID  `json:"id"`
	Name      string     `json:"name"`
	Role      Role       `json:"role"`
	Source    string     `json:"source,omitempty"`
	AgentID   string     `json:"agent_id,omitempty"`
	User      *uuid.UUID `json:"user_id,omitempty"`
	Basis     *Basis     `json:"basis,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// secretPrefix lets scanners of code and logs recognise a key that leaked.
const secretPrefix = "ek_"

// CreateKey makes a key and returns its secret, "ek_" and 32 random bytes in
// base64url, this once: only the secret's SHA-256 is kept. It needs
// ManageAccess. Errors: ErrForbidden, *invalid.Error.
func (a *Access) CreateKey(ctx context.Context, actor Actor, n NewKey) (k Key, secret string, err error) {
	if err := actor.May(ManageAccess); err != nil {
		return Key{}, "", err
	}
	n.Name = strings.TrimSpace(n.Name)
	if err := n.check(a.db.Now()); err != nil {
		return Key{}, "", err
	}
	secret = secretPrefix + newToken()
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		k = Key{
			ID: tx.NewID(), Name: n.Name, Role: n.Role, Source: n.Source, AgentID: n.AgentID,
			User: n.User, Basis: n.Basis, CreatedAt: tx.Now, ExpiresAt: n.ExpiresAt,
		}
		tx.Record(ledger.Entry{
			Actor: actor.String(), Action: "key.created", Subject: "key:" + k.ID.String(),
			Details: map[string]any{"role": string(k.Role)},
		})
		return k.insert(ctx, tx, actor, secret)
	})
	if violates(err, "api_keys_user_id_fkey") {
		return Key{}, "", invalid.New("body.user_id", "the id of a user of this archive")
	}
	if err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	return k, secret, nil
}

func (n NewKey) check(now time.Time) error {
	e := &invalid.Error{}
	checkName(e, "body.name", n.Name)
	checkRole(e, "body.role", n.Role)
	checkText(e, "body.source", n.Source, maxName)
	checkText(e, "body.agent_id", n.AgentID, maxName)
	if n.ExpiresAt != nil && !n.ExpiresAt.After(now) {
		e.Add("body.expires_at", "a time to come")
	}
	if n.Source != "" && n.Role != Uploader {
		e.Add("body.source", "only a key of role %s sends from a source", Uploader)
	}
	if n.Basis == nil {
		return e.Err()
	}
	if n.Role != Uploader {
		e.Add("body.basis", "only a key of role %s sends on a basis", Uploader)
	}
	n.Basis.Check(e, "body.basis")
	return e.Err()
}

func (k Key) insert(ctx context.Context, tx *db.Tx, actor Actor, secret string) error {
	_, err := tx.Exec(ctx, `
		insert into api_keys (id, name, role, source, agent_id, user_id, basis, secret_hash,
		                      created_by, created_at, expires_at)
		values ($1, $2, $3, nullif($4, ''), nullif($5, ''), $6, $7, $8, $9, $10, $11)`,
		k.ID, k.Name, k.Role, k.Source, k.AgentID, k.User, k.Basis, tokenHash(secret),
		actor.PersonString(), k.CreatedAt, k.ExpiresAt)
	return err
}

// Keys are all keys, revoked ones too, newest first. It needs ManageAccess.
func (a *Access) Keys(ctx context.Context, actor Actor) ([]Key, error) {
	if err := actor.May(ManageAccess); err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, `
		select id, name, role, coalesce(source, ''), coalesce(agent_id, ''), user_id, basis,
		       created_at, expires_at, revoked_at
		from api_keys order by id desc`)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Key, err error) {
		err = row.Scan(&k.ID, &k.Name, &k.Role, &k.Source, &k.AgentID, &k.User, &k.Basis,
			&k.CreatedAt, &k.ExpiresAt, &k.RevokedAt)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}

// RevokeKey ends a key at once; ending it again changes nothing. It needs
// ManageAccess. Errors: ErrForbidden, db.ErrNotFound.
func (a *Access) RevokeKey(ctx context.Context, actor Actor, id uuid.UUID) error {
	if err := actor.May(ManageAccess); err != nil {
		return err
	}
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		var revoked bool
		err := tx.QueryRow(ctx, `select revoked_at is not null from api_keys where id = $1 for update`, id).Scan(&revoked)
		if err != nil || revoked {
			return db.Found(err)
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "key.revoked", Subject: "key:" + id.String()})
		_, err = tx.Exec(ctx, `update api_keys set revoked_at = $2 where id = $1`, id, tx.Now)
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	return nil
}

// AuthenticateKey returns who holds the secret, or ErrUnauthenticated: it is
// unknown, expired or revoked, or its user is disabled.
func (a *Access) AuthenticateKey(ctx context.Context, secret string) (Actor, error) {
	if !strings.HasPrefix(secret, secretPrefix) {
		return Actor{}, ErrUnauthenticated
	}
	actor := Actor{Kind: "key"}
	// The index compares hashes: how long it takes tells nothing of a secret.
	err := a.db.QueryRow(ctx, `
		select k.id, coalesce(k.user_id, k.id), k.name, k.role,
		       coalesce(k.agent_id, u.agent_id, ''), coalesce(k.source, ''), k.basis
		from api_keys k left join users u on u.id = k.user_id
		where k.secret_hash = $1 and k.revoked_at is null and u.disabled_at is null
		  and (k.expires_at is null or k.expires_at > $2)`, tokenHash(secret), a.db.Now()).
		Scan(&actor.ID, &actor.Person, &actor.Name, &actor.Role, &actor.AgentID, &actor.Source, &actor.Basis)
	if errors.Is(err, pgx.ErrNoRows) {
		return Actor{}, ErrUnauthenticated
	}
	if err != nil {
		return Actor{}, fmt.Errorf("authenticate key: %w", err)
	}
	return actor, nil
}

// newToken is 32 random bytes in base64url, which nobody guesses.
func newToken() string {
	token := make([]byte, 32)
	rand.Read(token) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(token)
}

// tokenHash needs no salt and no cost: a token is random.
func tokenHash(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}

// maxName bounds names and ids that others give, in bytes.
const maxName = 200

func checkName(e *invalid.Error, location, name string) {
	if name == "" {
		e.Add(location, "a name by which people recognise it")
	}
	checkText(e, location, name, maxName)
}

func checkRole(e *invalid.Error, location string, r Role) {
	if !r.Valid() {
		e.Add(location, "one of %s", joined(Roles))
	}
}

// violates says whether err is PostgreSQL's word that the constraint forbids it.
func violates(err error, constraint string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.ConstraintName == constraint
}
