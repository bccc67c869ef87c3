package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"earmark/internal/invalid"
)

// Bounds of an interaction's fields; lengths of text are in characters.
const (
	maxLine         = 255
	maxTags         = 64
	maxParticipants = 100
	maxMessages     = 10_000
	maxAttributes   = 64 << 10
	maxAhead        = 24 * time.Hour
	minYear         = 1990
	maxSeconds      = 1e8
)

var participantRoles = []string{"agent", "customer", "supervisor", "bot", "third_party"}

// Validate brings n into the form in which it is kept (NFC, no white space
// around, UTC to the microsecond) and returns an *invalid.Error, with
// locations such as "body.started_at", when it cannot be kept.
func (n *NewInteraction) Validate(now time.Time) error {
	e := &invalid.Error{}
	n.checkIdentity(e)
	n.checkTimes(e, now)
	n.checkPeople(e)
	n.checkWork(e)
	n.checkText(e)
	n.Tags = checkTags(e, n.Tags)
	n.Attributes = checkAttributes(e, n.Attributes)
	if n.Consent != nil {
		checked, err := n.Consent.Checked("body.consent", now)
		collect(e, err)
		n.Consent = &checked
	}
	return e.Err()
}

// collect adds the fields of another check's error.
func collect(e *invalid.Error, err error) {
	var fields *invalid.Error
	if errors.As(err, &fields) {
		e.Fields = append(e.Fields, fields.Fields...)
	}
}

func (n *NewInteraction) checkIdentity(e *invalid.Error) {
	line(e, "body.source", &n.Source)
	line(e, "body.source_id", &n.SourceID)
	if n.Source == "" {
		e.Add("body.source", "required: the name of the system that it comes from")
	}
	if n.SourceID == "" {
		e.Add("body.source_id", "required: its id in that system")
	}
	oneOf(e, "body.channel", n.Channel, Channels)
	if n.Direction != "" {
		oneOf(e, "body.direction", n.Direction, Directions)
	}
}

func oneOf(e *invalid.Error, location, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		e.Add(location, "one of %s", strings.Join(allowed, ", "))
	}
}

func (n *NewInteraction) checkTimes(e *invalid.Error, now time.Time) {
	if n.StartedAt.IsZero() {
		e.Add("body.started_at", "required: "+timeForm)
		return
	}
	n.StartedAt = instant(n.StartedAt)
	checkInstant(e, "body.started_at", n.StartedAt, now)
	if n.EndedAt == nil {
		return
	}
	end := instant(*n.EndedAt)
	n.EndedAt = &end
	checkInstant(e, "body.ended_at", end, now)
	if end.Before(n.StartedAt) {
		e.Add("body.ended_at", "not before started_at")
	}
}

// instant is t as PostgreSQL keeps it.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func checkInstant(e *invalid.Error, location string, t, now time.Time) {
	if t.Year() < minYear || t.After(now.Add(maxAhead)) {
		e.Add(location, "from the year %d on and at most a day ahead", minYear)
	}
}

func (n *NewInteraction) checkPeople(e *invalid.Error) {
	if n.Agent != nil {
		line(e, "body.agent.id", &n.Agent.ID)
		line(e, "body.agent.name", &n.Agent.Name)
	}
	if c := n.Customer; c != nil {
		line(e, "body.customer.id", &c.ID)
		line(e, "body.customer.phone", &c.Phone)
		line(e, "body.customer.email", &c.Email)
		line(e, "body.customer.name", &c.Name)
	}
	line(e, "body.ani", &n.ANI)
	line(e, "body.dnis", &n.DNIS)
	if len(n.Participants) > maxParticipants {
		e.Add("body.participants", "at most %d", maxParticipants)
		return
	}
	for i := range n.Participants {
		p, at := &n.Participants[i], fmt.Sprintf("body.participants[%d]", i)
		if p.Role != "" {
			oneOf(e, at+".role", p.Role, participantRoles)
		}
		line(e, at+".id", &p.ID)
		line(e, at+".name", &p.Name)
		line(e, at+".phone", &p.Phone)
		line(e, at+".email", &p.Email)
	}
}

func (n *NewInteraction) checkWork(e *invalid.Error) {
	line(e, "body.queue", &n.Queue)
	line(e, "body.skill", &n.Skill)
	line(e, "body.campaign", &n.Campaign)
	line(e, "body.disposition", &n.Disposition)
	line(e, "body.wrap_up_code", &n.WrapUpCode)
	line(e, "body.disconnect_reason", &n.DisconnectReason)
	if n.HoldCount != nil && (*n.HoldCount < 0 || *n.HoldCount > math.MaxInt32) {
		e.Add("body.hold_count", "0 or more")
	}
	checkSeconds(e, "body.hold_seconds", n.HoldSeconds)
	checkSeconds(e, "body.after_contact_work_seconds", n.AfterContactWorkSeconds)
}

func checkSeconds(e *invalid.Error, location string, s *float64) {
	if s != nil && !(*s >= 0 && *s <= maxSeconds) { // NaN too
		e.Add(location, "seconds, 0 or more")
	}
}

func (n *NewInteraction) checkText(e *invalid.Error) {
	n.Transcript = text(e, "body.transcript", n.Transcript)
	if len(n.Messages) > maxMessages {
		e.Add("body.messages", "at most %d", maxMessages)
		return
	}
	total := len(n.Transcript)
	for i := range n.Messages {
		m, at := &n.Messages[i], fmt.Sprintf("body.messages[%d]", i)
		line(e, at+".from", &m.From)
		m.Text = text(e, at+".text", m.Text)
		total += len(m.Text)
		if m.At != nil {
			utc := instant(*m.At)
			m.At = &utc
		}
	}
	if total > MaxMetadata {
		e.Add("body.messages", "messages and transcript of at most %d bytes together", MaxMetadata)
	}
}

// line normalises a short text in place.
func line(e *invalid.Error, location string, s *string) {
	*s = strings.TrimSpace(text(e, location, *s))
	if utf8.RuneCountInString(*s) > maxLine {
		e.Add(location, "at most %d characters", maxLine)
	}
}

// text is s in Unicode's normal form C. PostgreSQL keeps no NUL character.
func text(e *invalid.Error, location, s string) string {
	if !utf8.ValidString(s) {
		e.Add(location, "valid UTF-8")
		return ""
	}
	if strings.ContainsRune(s, 0) {
		e.Add(location, "no NUL character")
	}
	return norm.NFC.String(s)
}

func checkTags(e *invalid.Error, tags []string) []string {
	if len(tags) > maxTags {
		e.Add("body.tags", "at most %d", maxTags)
		return nil
	}
	var clean []string
	for i, tag := range tags {
		line(e, fmt.Sprintf("body.tags[%d]", i), &tag)
		if tag == "" {
			e.Add(fmt.Sprintf("body.tags[%d]", i), "not empty")
		}
		if !slices.Contains(clean, tag) {
			clean = append(clean, tag)
		}
	}
	return clean
}

// checkAttributes returns the object in one canonical text, nil when it is empty.
func checkAttributes(e *invalid.Error, raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	const location = "body.attributes"
	switch {
	case len(raw) > maxAttributes:
		e.Add(location, "at most %d bytes", maxAttributes)
		return nil
	case depth(raw) > maxDepth:
		e.Add(location, "at most %d levels", maxDepth)
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		e.Add(location, "a JSON object")
		return nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		e.Add(location, "one JSON object")
		return nil
	}
	clean, ok := storable(object)
	if !ok {
		e.Add(location, "no NUL character and no number beyond double precision")
		return nil
	}
	if len(object) == 0 {
		return nil
	}
	canonical, err := json.Marshal(clean)
	if err != nil {
		e.Add(location, "a JSON object")
		return nil
	}
	return canonical
}

// storable is a JSON value in normal form C, as far as PostgreSQL keeps it.
func storable(value any) (clean any, ok bool) {
	switch v := value.(type) {
	case string:
		return norm.NFC.String(v), !strings.ContainsRune(v, 0)
	case json.Number:
		return v, storableNumber(v.String())
	case []any:
		for i := range v {
			if v[i], ok = storable(v[i]); !ok {
				return nil, false
			}
		}
		return v, true
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, one := range v {
			if one, ok = storable(one); !ok || strings.ContainsRune(key, 0) {
				return nil, false
			}
			object[norm.NFC.String(key)] = one
		}
		return object, true
	}
	return value, true
}

// storableNumber keeps out what overflows a double, and the tiny numbers that
// overflow PostgreSQL's numeric.
func storableNumber(number string) bool {
	if _, err := strconv.ParseFloat(number, 64); err != nil {
		return false
	}
	_, exponent, scientific := strings.Cut(strings.ToLower(number), "e")
	if !scientific {
		return true
	}
	power, err := strconv.Atoi(exponent)
	return err == nil && power > -400
}

var recordingName = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

// check fills in the name and bounds what describes the recording.
func (audio *Audio) check() error {
	e := &invalid.Error{}
	if audio.Name == "" {
		audio.Name = defaultRecording
	}
	if !recordingName.MatchString(audio.Name) || strings.Trim(audio.Name, ".") == "" {
		e.Add("path.name", "1 to 64 of a-z, 0-9, '.', '_' and '-', and not dots alone")
	}
	line(e, "file_name", &audio.FileName)
	return e.Err()
}
