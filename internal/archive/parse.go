package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"earmark/internal/invalid"
)

const (
	// MaxMetadata is the longest JSON text of an interaction, in bytes.
	MaxMetadata = 1 << 20
	maxDepth    = 32
)

// ParseNew reads an interaction from JSON, strictly: at most MaxMetadata bytes
// and 32 levels, UTF-8, no unknown field, no name twice. Errors are *invalid.Error with
// locations below "body". It does not validate.
func ParseNew(data []byte) (NewInteraction, error) {
	var n NewInteraction
	return n, parse(data, &n)
}

// ParsePatch reads a Patch as ParseNew reads an interaction.
func ParsePatch(data []byte) (Patch, error) {
	var p Patch
	return p, parse(data, &p)
}

func parse(data []byte, into any) error {
	switch {
	case len(data) > MaxMetadata:
		return invalid.New("body", "at most %d bytes", MaxMetadata)
	case !utf8.Valid(data):
		return invalid.New("body", "valid UTF-8")
	case depth(data) > maxDepth:
		return invalid.New("body", "at most %d levels of objects and arrays", maxDepth)
	}
	if err := checkNames(data); err != nil {
		return err
	}
	if err := parseTimes(data); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return parseError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid.New("body", "one JSON object and nothing after it")
	}
	return nil
}

// depth counts without recursion how deep the brackets of a JSON text nest.
func depth(data []byte) int {
	level, deepest, quoted, escaped := 0, 0, false, false
	for _, c := range data {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// checkNames refuses what encoding/json lets pass: a name twice in one object,
// where the last would win, and a field in capital letters. What is no JSON is
// left for the decoder to say.
func checkNames(data []byte) error {
	err := names(json.NewDecoder(bytes.NewReader(data)), "body")
	var found *invalid.Error
	if errors.As(err, &found) {
		return err
	}
	return nil
}

// names reads one value. at is where it stands; what is the sender's own has
// the names that the sender likes.
func names(d *json.Decoder, at string) error {
	token, err := d.Token()
	if err != nil || token != json.Delim('{') && token != json.Delim('[') {
		return err
	}
	own := at == "body.attributes" || at == "body.consent.proof"
	seen := map[string]bool{}
	for i := 0; d.More(); i++ {
		within := at
		if token == json.Delim('{') {
			name, err := d.Token()
			if err != nil {
				return err
			}
			field := fmt.Sprint(name)
			if !own && fieldName.MatchString(field) {
				within += "." + field
			}
			if seen[field] {
				return invalid.New(within, "given once: it is there twice")
			}
			if !own && strings.ToLower(field) != field {
				return invalid.New(at, "only known fields, in small letters")
			}
			seen[field] = true
		} else if !own {
			within += fmt.Sprintf("[%d]", i)
		}
		if err := names(d, within); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

var fieldName = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

const timeForm = "RFC 3339 with a zone, such as 2026-01-02T15:04:05Z"

// parseTimes names the field of a time that is none, which the decoder does not.
func parseTimes(data []byte) error {
	var times struct {
		StartedAt json.RawMessage `json:"started_at"`
		EndedAt   json.RawMessage `json:"ended_at"`
	}
	e := &invalid.Error{}
	if err := json.Unmarshal(data, &times); err == nil { // else the decoder says what is wrong
		checkTime(e, "body.started_at", times.StartedAt)
		checkTime(e, "body.ended_at", times.EndedAt)
	}
	return e.Err()
}

func checkTime(e *invalid.Error, location string, raw json.RawMessage) {
	var t time.Time
	if len(raw) > 0 && json.Unmarshal(raw, &t) != nil {
		e.Add(location, timeForm)
	}
}

var unknownField = regexp.MustCompile(`^json: unknown field "([a-z0-9_]{1,64})"$`)

func parseError(err error) error {
	var wrongType *json.UnmarshalTypeError
	var wrongTime *time.ParseError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field != "":
		// The embedded struct's own name stands in the decoder's path.
		field := strings.TrimPrefix(wrongType.Field, "Metadata.")
		// After the type of a number stands the number.
		kind, _, _ := strings.Cut(wrongType.Value, " ")
		return invalid.New("body."+field, "another JSON type, or another number: not this %s", kind)
	case errors.As(err, &wrongTime):
		return invalid.New("body", "times in "+timeForm)
	}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		return invalid.New("body."+m[1], "no such field: leave it out, or put it into attributes")
	}
	if strings.HasPrefix(err.Error(), "json: unknown field") {
		return invalid.New("body", "only known fields")
	}
	return invalid.New("body", "a JSON object")
}
