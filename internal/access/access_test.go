package access_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// bundle is a house with nobody in it yet, and a clock that tests turn.
type bundle struct {
	*access.Access
	db    *db.DB
	admin access.Actor

	mu  sync.Mutex
	now time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	b.db = dbtest.Open(t, dbtest.URL(t), db.Options{Now: func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.now
	}})
	b.Access = access.New(b.db)
	b.Cheap()
	b.admin = access.System("test")
	return b
}

func (b *bundle) later(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// ledger is what was recorded, as "actor action subject details".
func (b *bundle) ledger(t *testing.T) []string {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `select entry from ledger_pending order by id`)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, text := range texts {
		e, err := ledger.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprint(e.Actor, " ", e.Action, " ", e.Subject, " ", e.Details))
	}
	return said
}

func (b *bundle) user(t *testing.T, n access.NewUser) access.User {
	t.Helper()
	u, _, err := b.CreateUser(t.Context(), b.admin, n)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (b *bundle) key(t *testing.T, n access.NewKey) (access.Key, string) {
	t.Helper()
	k, secret, err := b.CreateKey(t.Context(), b.admin, n)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// locations are the fields that err says are wrong.
func locations(t *testing.T, err error) []string {
	t.Helper()
	var e *invalid.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an invalid input: %v", err)
	}
	var all []string
	for _, f := range e.Fields {
		all = append(all, f.Location)
	}
	return all
}

func TestAKeyIsItsSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	basis := &access.Basis{Basis: access.Consent, Method: "announcement", Purposes: []access.Purpose{access.Training}}
	k, secret := b.key(t, access.NewKey{Name: " pbx ", Role: access.Uploader, Source: "freepbx", AgentID: "a1", Basis: basis})

	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret, "ek_"))
	if err != nil || len(raw) != 32 || !strings.HasPrefix(secret, "ek_") {
		t.Errorf("a secret of %d bytes, %v", len(raw), err)
	}
	actor, err := b.AuthenticateKey(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	want := access.Actor{
		Kind: "key", ID: k.ID, Person: k.ID, Name: "pbx", Role: access.Uploader, AgentID: "a1", Source: "freepbx", Basis: basis,
	}
	if diff := cmp.Diff(want, actor); diff != "" {
		t.Error(diff)
	}
	for name, wrong := range map[string]string{
		"empty": "", "no prefix": strings.TrimPrefix(secret, "ek_"), "cut": secret[:len(secret)-1],
		"other": "ek_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "NUL": "ek_\x00", "not UTF-8": "ek_\xff",
	} {
		if _, err := b.AuthenticateKey(t.Context(), wrong); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var found bool
	err = b.db.QueryRow(t.Context(), `select exists (select from api_keys k where k::text like '%' || $1 || '%')`,
		strings.TrimPrefix(secret, "ek_")).Scan(&found)
	if err != nil || found {
		t.Errorf("the secret is stored: %v, %v", found, err)
	}
	wantLedger := []string{"system:test key.created key:" + k.ID.String() + " map[role:uploader]"}
	if diff := cmp.Diff(wantLedger, b.ledger(t)); diff != "" {
		t.Error(diff)
	}
}

func TestAKeyEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	expires := b.db.Now().Add(time.Hour)
	_, expiring := b.key(t, access.NewKey{Name: "a", Role: access.Auditor, ExpiresAt: &expires})
	k, revoked := b.key(t, access.NewKey{Name: "b", Role: access.Auditor})

	for range 2 {
		if err := b.RevokeKey(t.Context(), b.admin, k.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.AuthenticateKey(t.Context(), revoked); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("revoked: %v", err)
	}
	if n := strings.Count(strings.Join(b.ledger(t), "\n"), "key.revoked"); n != 1 {
		t.Errorf("revoked twice leaves %d entries", n)
	}
	if err := b.RevokeKey(t.Context(), b.admin, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("revoke nothing: %v", err)
	}
	if _, err := b.AuthenticateKey(t.Context(), expiring); err != nil {
		t.Errorf("before its end: %v", err)
	}
	b.later(time.Hour)
	if _, err := b.AuthenticateKey(t.Context(), expiring); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("at its end: %v", err)
	}
}

// Invariant 9: a second hand is not a second person.
func TestAPersonsKeyIsThatPerson(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u := b.user(t, access.NewUser{Login: "lan", Role: access.RecordsOfficer, AgentID: "a7", Password: "correct horse"})
	_, secret := b.key(t, access.NewKey{Name: "lan's script", Role: access.RecordsOfficer, User: &u.ID})
	_, other := b.key(t, access.NewKey{Name: "machine", Role: access.RecordsOfficer})

	_, person, _, err := b.SignIn(t.Context(), "lan", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	script, err := b.AuthenticateKey(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	machine, err := b.AuthenticateKey(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Approves(person.PersonString()); !errors.Is(err, access.ErrSamePerson) {
		t.Errorf("lan's key approves what lan asked for: %v", err)
	}
	if err := machine.Approves(person.PersonString()); err != nil {
		t.Errorf("a machine's key does not approve what lan asked for: %v", err)
	}
	if script.AgentID != "a7" {
		t.Errorf("lan's key takes the calls of %q", script.AgentID)
	}
	if err := b.DisableUser(t.Context(), b.admin, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AuthenticateKey(t.Context(), secret); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("the key of a disabled user: %v", err)
	}
}

func TestWhatAKeyMayBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	past := b.db.Now()
	stranger := uuid.New()
	reasoned := &access.Basis{Basis: access.LegitimateInterests, Reason: "fraud"}
	for name, c := range map[string]struct {
		key  access.NewKey
		want []string
	}{
		"basis without source":  {access.NewKey{Name: "k", Role: access.Uploader, Basis: reasoned}, nil},
		"agent's softphone":     {access.NewKey{Name: "k", Role: access.Uploader, AgentID: "a1"}, nil},
		"nothing":               {access.NewKey{}, []string{"body.name", "body.role"}},
		"unknown role":          {access.NewKey{Name: "k", Role: "owner"}, []string{"body.role"}},
		"the system's role":     {access.NewKey{Name: "k", Role: "system"}, []string{"body.role"}},
		"expired":               {access.NewKey{Name: "k", Role: access.Admin, ExpiresAt: &past}, []string{"body.expires_at"}},
		"reviewer with source":  {access.NewKey{Name: "k", Role: access.Reviewer, Source: "s"}, []string{"body.source"}},
		"reviewer with basis":   {access.NewKey{Name: "k", Role: access.Reviewer, Basis: reasoned}, []string{"body.basis"}},
		"basis without reason":  {access.NewKey{Name: "k", Role: access.Uploader, Basis: &access.Basis{Basis: access.Contract}}, []string{"body.basis.reason"}},
		"unknown basis":         {access.NewKey{Name: "k", Role: access.Uploader, Basis: &access.Basis{Basis: "habit"}}, []string{"body.basis.basis"}},
		"unknown purpose":       {access.NewKey{Name: "k", Role: access.Uploader, Basis: &access.Basis{Basis: access.Consent, Purposes: []access.Purpose{"fun"}}}, []string{"body.basis.purposes"}},
		"no purpose":            {access.NewKey{Name: "k", Role: access.Uploader, Basis: &access.Basis{Basis: access.Consent, Purposes: []access.Purpose{}}}, []string{"body.basis.purposes"}},
		"NUL":                   {access.NewKey{Name: "k\x00", Role: access.Uploader}, []string{"body.name"}},
		"nobody's key":          {access.NewKey{Name: "k", Role: access.Admin, User: &stranger}, []string{"body.user_id"}},
		"very long source name": {access.NewKey{Name: "k", Role: access.Uploader, Source: strings.Repeat("s", 201)}, []string{"body.source"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := b.CreateKey(t.Context(), b.admin, c.key)
			if c.want == nil && err == nil {
				return
			}
			if diff := cmp.Diff(c.want, locations(t, err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOnlyAdministratorsManageAccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, r := range access.Roles {
		actor := access.Actor{Kind: "key", ID: uuid.New(), Person: uuid.New(), Role: r}
		_, _, create := b.CreateKey(t.Context(), actor, access.NewKey{Name: string(r), Role: access.Auditor})
		_, list := b.Keys(t.Context(), actor)
		_, _, hire := b.CreateUser(t.Context(), actor, access.NewUser{Login: string(r), Role: access.Agent})
		_, users := b.Users(t.Context(), actor)
		_, reset := b.ResetPassword(t.Context(), actor, uuid.New())
		for _, err := range []error{create, list, hire, users, reset,
			b.RevokeKey(t.Context(), actor, uuid.New()), b.DisableUser(t.Context(), actor, uuid.New())} {
			if may := !errors.Is(err, access.ErrForbidden); may != (r == access.Admin) {
				t.Errorf("%s: %v", r, err)
			}
		}
	}
}

func TestListsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made, _ := b.key(t, access.NewKey{Name: "k", Role: access.Uploader, Source: "s", Basis: &access.Basis{Basis: access.Contract, Reason: "orders"}})
	keys, err := b.Keys(t.Context(), b.admin)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]access.Key{made}, keys, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	u := b.user(t, access.NewUser{Login: " Lan@Example.VN ", Name: " Lan ", Role: access.Reviewer, AgentID: "a1"})
	users, err := b.Users(t.Context(), b.admin)
	if err != nil {
		t.Fatal(err)
	}
	want := []access.User{{
		ID: u.ID, Login: "lan@example.vn", Name: "Lan", Role: access.Reviewer, AgentID: "a1",
		MustChangePassword: true, CreatedAt: b.db.Now(),
	}}
	if diff := cmp.Diff(want, users, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
}

func TestSignInAndOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u := b.user(t, access.NewUser{Login: "Minh", Name: "Minh", Role: access.Reviewer, AgentID: "a2", Password: "mật khẩu dài"})

	// The same letters, composed by another keyboard.
	token, actor, mustChange, err := b.SignIn(t.Context(), " MINH ", "mật khẩu dài")
	if err != nil || mustChange {
		t.Fatalf("%v, %v", mustChange, err)
	}
	want := access.Actor{Kind: "user", ID: u.ID, Person: u.ID, Name: "Minh", Role: access.Reviewer, AgentID: "a2"}
	if diff := cmp.Diff(want, actor); diff != "" {
		t.Error(diff)
	}
	again, err := b.AuthenticateSession(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{"", token + "x", token[1:], "\x00", "\xff"} {
		if _, err := b.AuthenticateSession(t.Context(), wrong); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	for range 2 {
		if err := b.SignOut(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.AuthenticateSession(t.Context(), token); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("after signing out: %v", err)
	}
	wantLedger := []string{
		"system:test user.created user:" + u.ID.String() + " map[role:reviewer]",
		"user:" + u.ID.String() + " session.opened user:" + u.ID.String() + " map[]",
	}
	if diff := cmp.Diff(wantLedger, b.ledger(t)); diff != "" {
		t.Error(diff)
	}
}

func TestSignInIsRefusedAlike(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(t, access.NewUser{Login: "minh", Role: access.Reviewer, Password: "mật khẩu dài"})
	gone := b.user(t, access.NewUser{Login: "gone", Role: access.Reviewer, Password: "mật khẩu dài"})
	if err := b.DisableUser(t.Context(), b.admin, gone.ID); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"minh", "mật khẩu"}, {"minh", ""}, {"minh", strings.Repeat("x", 1<<20)},
		{"nobody", "mật khẩu dài"}, {"gone", "mật khẩu dài"}, {"", ""}, {"a\x00b", "x"}, {"\xff", "x"},
	} {
		token, actor, _, err := b.SignIn(t.Context(), c[0], c[1])
		if !errors.Is(err, access.ErrUnauthenticated) || token != "" || actor != (access.Actor{}) {
			t.Errorf("%.20q: %q, %v, %v", c[0], token, actor, err)
		}
	}
	for _, entry := range b.ledger(t) {
		if strings.Contains(entry, "nobody") || strings.Contains(entry, "minh") {
			t.Errorf("the ledger holds a login: %s", entry)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(t, access.NewUser{Login: "minh", Role: access.Reviewer, Password: "mật khẩu dài"})
	first := b.signIn(t, "minh", "mật khẩu dài")
	b.later(access.SessionLength - time.Second)
	second := b.signIn(t, "minh", "mật khẩu dài")
	if _, err := b.AuthenticateSession(t.Context(), first); err != nil {
		t.Errorf("a second before the end: %v", err)
	}
	b.later(time.Second)
	if _, err := b.AuthenticateSession(t.Context(), first); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("at the end: %v", err)
	}
	if err := b.PurgeExpiredSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := b.db.QueryRow(t.Context(), `select count(*) from sessions`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d sessions left, %v", left, err)
	}
	if _, err := b.AuthenticateSession(t.Context(), second); err != nil {
		t.Errorf("the younger session: %v", err)
	}
}

func (b *bundle) signIn(t *testing.T, login, password string) (token string) {
	t.Helper()
	token, _, _, err := b.SignIn(t.Context(), login, password)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestPasswordsAreChangedAndReset(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u, oneTime, err := b.CreateUser(t.Context(), b.admin, access.NewUser{Login: "hoa", Role: access.Supervisor})
	if err != nil {
		t.Fatal(err)
	}
	_, actor, mustChange, err := b.SignIn(t.Context(), "hoa", oneTime)
	if err != nil || !mustChange || !actor.MustChangePassword {
		t.Fatalf("%v, %v, %v", mustChange, actor, err)
	}
	// Whoever made the one-time password knows it: until it is changed it is
	// not certain who asks (invariant 9, two people).
	for _, action := range actor.Role.Actions() {
		if err := actor.May(action); !errors.Is(err, access.ErrForbidden) {
			t.Errorf("with a one-time password %s: %v", action, err)
		}
	}
	for name, c := range map[string]struct {
		old, password string
		want          []string
	}{
		"wrong old":   {"wrong", "a fine long one", []string{"body.old_password"}},
		"short":       {oneTime, "short", []string{"body.new_password"}},
		"endless":     {oneTime, strings.Repeat("x", 1001), []string{"body.new_password"}},
		"not changed": {oneTime, "hoa", []string{"body.new_password"}},
	} {
		err := b.SetPassword(t.Context(), actor, u.ID, c.old, c.password)
		if diff := cmp.Diff(c.want, locations(t, err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	token := b.signIn(t, "hoa", oneTime)
	if err := b.SetPassword(t.Context(), actor, u.ID, oneTime, "a fine long one"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AuthenticateSession(t.Context(), token); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("a session survives the change: %v", err)
	}
	if _, _, _, err := b.SignIn(t.Context(), "hoa", oneTime); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("the old password: %v", err)
	}
	if _, _, mustChange, err = b.SignIn(t.Context(), "hoa", "a fine long one"); err != nil || mustChange {
		t.Errorf("the new password: %v, %v", mustChange, err)
	}
	other := b.user(t, access.NewUser{Login: "other", Role: access.Admin, Password: "a fine long one"})
	if err := b.SetPassword(t.Context(), actor, other.ID, "a fine long one", "another long one"); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("somebody else's password: %v", err)
	}
	reset, err := b.ResetPassword(t.Context(), b.admin, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, mustChange, err = b.SignIn(t.Context(), "hoa", reset); err != nil || !mustChange {
		t.Errorf("after the reset: %v, %v", mustChange, err)
	}
	if _, err := b.ResetPassword(t.Context(), b.admin, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("nobody's password: %v", err)
	}
}

func TestDisabledUsersAreOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u := b.user(t, access.NewUser{Login: "hoa", Role: access.Admin, Password: "a fine long one"})
	token := b.signIn(t, "hoa", "a fine long one")
	actor, err := b.AuthenticateSession(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.DisableUser(t.Context(), actor, u.ID); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("hoa disables herself: %v", err)
	}
	for range 2 {
		if err := b.DisableUser(t.Context(), b.admin, u.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.AuthenticateSession(t.Context(), token); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("session: %v", err)
	}
	if _, _, _, err := b.SignIn(t.Context(), "hoa", "a fine long one"); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("sign-in: %v", err)
	}
	if err := b.DisableUser(t.Context(), b.admin, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("disable nobody: %v", err)
	}
}

func TestLoginsAreUnique(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var made, taken int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			_, _, err := b.CreateUser(context.Background(), b.admin, access.NewUser{Login: "ĐẠT", Role: access.Agent})
			mu.Lock()
			defer mu.Unlock()
			var e *invalid.Error
			switch {
			case err == nil:
				made++
			case errors.As(err, &e) && e.Fields[0].Location == "body.login":
				taken++
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made != 1 || taken != 7 {
		t.Errorf("%d made, %d taken", made, taken)
	}
	_, _, err := b.CreateUser(t.Context(), b.admin, access.NewUser{Login: "two words", Role: "owner", Password: "short"})
	if diff := cmp.Diff([]string{"body.login", "body.role", "body.password"}, locations(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestAttemptsAreThrottledPerLogin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(t, access.NewUser{Login: "hoa", Role: access.Admin, Password: "a fine long one"})
	b.user(t, access.NewUser{Login: "lan", Role: access.Admin, Password: "a fine long one"})
	for _, login := range []string{"hoa", "nobody"} {
		for range 10 {
			if _, _, _, err := b.SignIn(t.Context(), login, "wrong"); !errors.Is(err, access.ErrUnauthenticated) {
				t.Fatal(err)
			}
		}
		if _, _, _, err := b.SignIn(t.Context(), strings.ToUpper(login), "a fine long one"); !errors.Is(err, access.ErrTooManyAttempts) {
			t.Errorf("the eleventh at %s: %v", login, err)
		}
	}
	for range 20 {
		b.signIn(t, "lan", "a fine long one")
	}
	b.later(6 * time.Second)
	b.signIn(t, "hoa", "a fine long one")
	if _, _, _, err := b.SignIn(t.Context(), "hoa", "wrong"); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("after the right password: %v", err)
	}
}

func TestWeakHashesAreRenewed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u := b.user(t, access.NewUser{Login: "hoa", Role: access.Admin, Password: "a fine long one"})
	stored := func() (hash string) {
		if err := b.db.QueryRow(t.Context(), `select password_hash from users where id = $1`, u.ID).Scan(&hash); err != nil {
			t.Fatal(err)
		}
		return hash
	}
	if hash := stored(); !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Errorf("not a PHC string: %s", hash)
	}
	b.Dear()
	if _, _, _, err := b.SignIn(t.Context(), "hoa", "wrong"); !errors.Is(err, access.ErrUnauthenticated) {
		t.Fatal(err)
	}
	if hash := stored(); !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Errorf("renewed by a wrong password: %s", hash)
	}
	for range 2 {
		b.signIn(t, "hoa", "a fine long one")
		if hash := stored(); !strings.HasPrefix(hash, "$argon2id$v=19$m=128,t=2,p=1$") {
			t.Errorf("not renewed: %s", hash)
		}
	}
}

// What a sign-in began with may be gone when it ends.
func TestASignInThatRacesADisablingLeavesNoSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 30 {
		u := b.user(t, access.NewUser{Login: fmt.Sprint("u", i), Role: access.Admin, Password: "a fine long one"})
		var token string
		var signIn, disable error
		var group sync.WaitGroup
		group.Go(func() { token, _, _, signIn = b.SignIn(context.Background(), u.Login, "a fine long one") })
		group.Go(func() { disable = b.DisableUser(context.Background(), b.admin, u.ID) })
		group.Wait()
		if disable != nil || signIn != nil && !errors.Is(signIn, access.ErrUnauthenticated) {
			t.Fatalf("%v, %v", disable, signIn)
		}
		if _, err := b.AuthenticateSession(t.Context(), token); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("a session of a disabled user: %v", err)
		}
	}
	var left int
	if err := b.db.QueryRow(t.Context(), `select count(*) from sessions`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d sessions left, %v", left, err)
	}
}
