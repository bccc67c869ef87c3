// Package invalid tells what is wrong with an input, field by field.
package invalid

import (
	"fmt"
	"strings"
)

// Field is one thing wrong with one field. Location is where it stands in the
// input, such as "body.agent.id" or "query.purpose"; Message says what is
// expected and how to mend it, and never repeats the value that was sent.
type Field struct {
	Location string
	Message  string
}

// Error is an input that was refused for its fields. Nothing was stored.
type Error struct {
	Fields []Field
}

func (e *Error) Error() string {
	all := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		all[i] = f.Location + ": " + f.Message
	}
	return "invalid input: " + strings.Join(all, "; ")
}

// Add notes that the field at location is wrong.
func (e *Error) Add(location, format string, args ...any) {
	e.Fields = append(e.Fields, Field{Location: location, Message: fmt.Sprintf(format, args...)})
}

// Err returns e, or nil when nothing was added.
func (e *Error) Err() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// New is an Error about a single field.
func New(location, format string, args ...any) error {
	e := &Error{}
	e.Add(location, format, args...)
	return e
}
