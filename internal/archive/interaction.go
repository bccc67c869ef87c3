package archive

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/consent"
)

// State is where an interaction stands.
type State string

// The states of an interaction.
const (
	// Active: kept, and open to those who may.
	Active State = "active"
	// Quarantined: no basis is known yet; nobody opens it.
	Quarantined State = "quarantined"
	// Restricted: to be erased once its holds end; nobody opens it.
	Restricted State = "restricted"
	// Purging: its key is destroyed, its objects are going.
	Purging State = "purging"
	// Erased: a tombstone without personal data.
	Erased State = "erased"
)

// Enumerations of the interaction's fields.
var (
	States     = []State{Active, Quarantined, Restricted, Purging, Erased}
	Channels   = []string{"voice", "chat", "email", "sms", "social", "note"}
	Directions = []string{"inbound", "outbound", "internal"}
)

// Interaction is one contact on one channel, as the asker may see it. What was
// written or said in it is read by Read and Listen alone.
type Interaction struct {
	ID    uuid.UUID `json:"id"`
	State State     `json:"state"`
	Metadata
	// DurationMS is from start to end, or else that of the recording.
	DurationMS *int64 `json:"duration_ms,omitempty"`
	// Consent is the basis that it rests on, or what the sender said of it.
	Consent *consent.Statement `json:"consent,omitempty"`
	// Purposes are those that the basis covers.
	Purposes   []access.Purpose `json:"purposes"`
	Recordings []Recording      `json:"recordings"`
	Holds      []Held           `json:"holds"`
	PolicyID   *uuid.UUID       `json:"policy_id,omitempty"`
	// RetainUntil is when retention ends; nil: kept until erasure is asked for.
	RetainUntil *time.Time `json:"retain_until,omitempty"`
	ReceivedAt  time.Time  `json:"received_at"`
	// HasText says that there are messages or a transcript to read.
	HasText bool `json:"has_text"`
	// Receipt is a signed document that tells what was taken in, given in the
	// answer to whoever sent it.
	Receipt json.RawMessage `json:"receipt,omitempty"`
}

// Metadata is what describes an interaction, in the field's own words.
type Metadata struct {
	Source                  string          `json:"source,omitempty" doc:"The system that it comes from"`
	SourceID                string          `json:"source_id,omitempty" doc:"Its id there; the same again is the same interaction"`
	Channel                 string          `json:"channel,omitempty" enum:"voice,chat,email,sms,social,note"`
	Direction               string          `json:"direction,omitempty" enum:"inbound,outbound,internal"`
	StartedAt               time.Time       `json:"started_at"`
	EndedAt                 *time.Time      `json:"ended_at,omitempty"`
	Agent                   *Agent          `json:"agent,omitempty"`
	Queue                   string          `json:"queue,omitempty"`
	Skill                   string          `json:"skill,omitempty"`
	Campaign                string          `json:"campaign,omitempty"`
	Customer                *Customer       `json:"customer,omitempty"`
	ANI                     string          `json:"ani,omitempty" doc:"The calling number"`
	DNIS                    string          `json:"dnis,omitempty" doc:"The called number"`
	Participants            []Participant   `json:"participants,omitempty"`
	Disposition             string          `json:"disposition,omitempty" doc:"The outcome"`
	WrapUpCode              string          `json:"wrap_up_code,omitempty" doc:"The agent's code after it"`
	HoldCount               *int            `json:"hold_count,omitempty"`
	HoldSeconds             *float64        `json:"hold_seconds,omitempty"`
	AfterContactWorkSeconds *float64        `json:"after_contact_work_seconds,omitempty"`
	DisconnectReason        string          `json:"disconnect_reason,omitempty"`
	Tags                    []string        `json:"tags,omitempty"`
	Attributes              json.RawMessage `json:"attributes,omitempty" doc:"An object of the sender's own"`
}

// Agent is who took the interaction.
type Agent struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Customer is how the interaction's customer is known. As it is sent, ID is
// this archive's id of the customer, or the company's own number of them.
type Customer struct {
	ID    string `json:"id,omitempty"`
	Phone string `json:"phone,omitempty"`
	Email string `json:"email,omitempty"`
	Name  string `json:"name,omitempty"`
}

// Participant is one party. Role is agent, customer, supervisor, bot or third_party.
type Participant struct {
	Role  string `json:"role,omitempty" enum:"agent,customer,supervisor,bot,third_party"`
	ID    string `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	Phone string `json:"phone,omitempty"`
	Email string `json:"email,omitempty"`
}

// Message is one message of a chat, an e-mail or a note.
type Message struct {
	At   *time.Time `json:"at,omitempty"`
	From string     `json:"from,omitempty"`
	Text string     `json:"text"`
}

// NewInteraction is an interaction as a client sends it.
type NewInteraction struct {
	Metadata
	Consent    *consent.Statement `json:"consent,omitempty"`
	Messages   []Message          `json:"messages,omitempty"`
	Transcript string             `json:"transcript,omitempty"`
}

// Recording is one recording of an interaction.
type Recording struct {
	ID            uuid.UUID `json:"id"`
	InteractionID uuid.UUID `json:"interaction_id"`
	// Name tells an interaction's recordings apart: [a-z0-9._-]{1,64}.
	Name      string `json:"name"`
	FileName  string `json:"file_name,omitempty"`
	MediaType string `json:"media_type"`
	Bytes     int64  `json:"bytes"`
	// SHA256 is that of the bytes as they were sent, in hexadecimal.
	SHA256 string `json:"sha256"`
	// State is received, ready (analysed), flagged (Flags say why) or erased.
	State      string   `json:"state"`
	Flags      []string `json:"flags"`
	Codec      string   `json:"codec,omitempty"`
	Channels   int      `json:"channels,omitempty"`
	SampleRate int      `json:"sample_rate,omitempty"`
	DurationMS *int64   `json:"duration_ms,omitempty"`
	// HasListeningCopy says that there is a copy that every browser plays.
	HasListeningCopy bool      `json:"has_listening_copy"`
	HasPeaks         bool      `json:"has_peaks"`
	ReceivedAt       time.Time `json:"received_at"`
	// Receipt is as the Interaction's.
	Receipt json.RawMessage `json:"receipt,omitempty"`
}

// Hold is why interactions may not be destroyed: a legal hold, a draw's or a
// disclosure's, and its id there.
type Hold struct {
	// Kind is legal, review or disclosure.
	Kind string    `json:"kind"`
	Ref  uuid.UUID `json:"ref"`
}

// Held is a hold on one interaction.
type Held struct {
	Hold
	PlacedAt time.Time `json:"placed_at"`
}

// Text is what was written in an interaction, or transcribed from it.
type Text struct {
	Messages   []Message `json:"messages"`
	Transcript string    `json:"transcript,omitempty"`
}

// Patch is what Amend changes: nil leaves a field as it is, an empty value
// removes it.
type Patch struct {
	Tags             *[]string       `json:"tags,omitempty"`
	Disposition      *string         `json:"disposition,omitempty"`
	WrapUpCode       *string         `json:"wrap_up_code,omitempty"`
	DisconnectReason *string         `json:"disconnect_reason,omitempty"`
	Attributes       json.RawMessage `json:"attributes,omitempty"`
	// Consent replaces the basis; for a privacy officer, who so releases the
	// interaction from quarantine.
	Consent *consent.Statement `json:"consent,omitempty"`
}

// Page is a part of a list. NextCursor is empty on the last page.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}
