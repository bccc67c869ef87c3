package ledger

import (
	"bytes"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxEntry is the longest encoded entry, in bytes. An entry states a fact by ids,
// counts and codes; a list belongs in a signed document whose hash it names.
const MaxEntry = 64 << 10

// timeLayout keeps exactly what PostgreSQL keeps of an instant: microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// An Entry is one fact of the log: at At, Actor did Action to Subject. It
// outlives whatever it speaks of, so it holds ids, counts, codes and keyed
// hashes, and never a name, a number or a word that was said.
type Entry struct {
	// ID identifies the entry before it has a place in the log.
	ID uuid.UUID
	// At is when it happened; finer than a microsecond is cut off.
	At time.Time
	// Actor, Action and Subject say who did what to what, for example
	// "user:<id>", "recording.played" and "recording:<id>".
	Actor, Action, Subject string
	// Details holds what Canonical accepts.
	Details map[string]any
}

// Encode returns the one text of the entry: canonical JSON on one line, At in
// UTC to the microsecond (RFC 3339), empty details left out. Errors wrap
// ErrMalformed: an entry without id or action, an At outside the years 0 to
// 9999, a NUL character (PostgreSQL's jsonb, by which entries are looked up,
// holds none), details that have no canonical text, or a text above MaxEntry
// bytes.
func (e Entry) Encode() (string, error) {
	at := e.At.UTC()
	if e.ID == uuid.Nil || e.Action == "" || at.Year() < 0 || at.Year() > 9999 {
		return "", fmt.Errorf("encode entry: %w: no id, no action or no writable time", ErrMalformed)
	}
	fields := map[string]any{
		"id":      e.ID.String(),
		"at":      at.Format(timeLayout),
		"actor":   e.Actor,
		"action":  e.Action,
		"subject": e.Subject,
	}
	if len(e.Details) > 0 {
		fields["details"] = e.Details
	}
	text, err := Canonical(fields)
	if err != nil {
		return "", fmt.Errorf("encode entry: %w", err)
	}
	if bytes.Contains(text, []byte(`\u0000`)) {
		return "", fmt.Errorf("encode entry: %w: NUL character", ErrMalformed)
	}
	if len(text) > MaxEntry {
		return "", fmt.Errorf("encode entry: %w: %d bytes, at most %d", ErrMalformed, len(text), MaxEntry)
	}
	return string(text), nil
}

// Decode reads what Encode wrote and nothing else: a text that Encode would not
// write byte for byte is refused with ErrMalformed. Integers in Details are
// int64.
func Decode(text string) (Entry, error) {
	if len(text) > MaxEntry {
		return Entry{}, fmt.Errorf("decode entry: %w: longer than %d bytes", ErrMalformed, MaxEntry)
	}
	value, err := parse([]byte(text))
	if err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w", err)
	}
	entry := entryOf(value)
	// The comparison catches unknown fields, wrong types and other spellings.
	if again, err := entry.Encode(); err != nil || again != text {
		return Entry{}, fmt.Errorf("decode entry: %w: not the canonical text of an entry", ErrMalformed)
	}
	return entry, nil
}

// entryOf takes from value the fields of an entry that are there and of the right
// type; Decode refuses the rest.
func entryOf(value any) Entry {
	fields, _ := value.(map[string]any)
	text := func(key string) string {
		s, _ := fields[key].(string)
		return s
	}
	id, err := uuid.Parse(text("id"))
	if err != nil {
		return Entry{}
	}
	at, err := time.Parse(timeLayout, text("at"))
	if err != nil {
		return Entry{}
	}
	details, _ := fields["details"].(map[string]any)
	return Entry{
		ID: id, At: at,
		Actor: text("actor"), Action: text("action"), Subject: text("subject"),
		Details: details,
	}
}

// LeafHash is the hash of an encoded entry as a leaf of the tree,
// SHA-256(0x00 || text) (RFC 6962, section 2.1).
func LeafHash(text string) tlog.Hash {
	return tlog.RecordHash([]byte(text))
}
