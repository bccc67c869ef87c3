package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxDepth bounds the nesting of what is signed; nothing Earmark writes
	// comes near it.
	maxDepth = 32
	// maxInteger is the largest integer that every JSON reader keeps exact
	// (RFC 8785, section 3.2.2.3).
	maxInteger = 1<<53 - 1
)

// Canonical returns the one JSON text of v, after RFC 8785: no white space,
// keys sorted by UTF-16 code units, the shortest escapes. Equal values have
// equal texts and different values different ones.
//
// Only what has one exact text is accepted: null, booleans, strings in valid
// UTF-8, integers of at most 53 bits, arrays and objects, nested at most 32
// deep. Floating-point numbers are refused. A json.RawMessage is read strictly
// (no duplicate key, no lone surrogate, no number but an integer written the
// plain way); values of any other type become what encoding/json makes of them.
// Errors wrap ErrMalformed.
func Canonical(v any) ([]byte, error) {
	return appendValue(nil, v, 0)
}

func appendValue(buf []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: JSON nested deeper than %d", ErrMalformed, maxDepth)
	}
	switch v := v.(type) {
	case nil:
		return append(buf, "null"...), nil
	case bool:
		return strconv.AppendBool(buf, v), nil
	case int:
		return appendInteger(buf, int64(v))
	case int64:
		return appendInteger(buf, v)
	case float32, float64:
		return nil, fmt.Errorf("%w: a floating-point number has no canonical text", ErrMalformed)
	case string:
		return appendString(buf, v)
	case []any:
		return appendArray(buf, v, depth)
	case map[string]any:
		return appendObject(buf, v, depth)
	case json.RawMessage:
		return appendParsed(buf, v, depth)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return appendParsed(buf, text, depth)
}

func appendParsed(buf, text []byte, depth int) ([]byte, error) {
	v, err := parse(text)
	if err != nil {
		return nil, err
	}
	return appendValue(buf, v, depth)
}

func appendInteger(buf []byte, n int64) ([]byte, error) {
	if n < -maxInteger || n > maxInteger {
		return nil, fmt.Errorf("%w: integer beyond 53 bits", ErrMalformed)
	}
	return strconv.AppendInt(buf, n, 10), nil
}

func appendArray(buf []byte, values []any, depth int) (_ []byte, err error) {
	if values == nil {
		return append(buf, "null"...), nil
	}
	buf = append(buf, '[')
	for i, v := range values {
		if i > 0 {
			buf = append(buf, ',')
		}
		if buf, err = appendValue(buf, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(buf, ']'), nil
}

func appendObject(buf []byte, object map[string]any, depth int) (_ []byte, err error) {
	if object == nil {
		return append(buf, "null"...), nil
	}
	buf = append(buf, '{')
	for i, key := range slices.SortedFunc(maps.Keys(object), compareUTF16) {
		if i > 0 {
			buf = append(buf, ',')
		}
		if buf, err = appendString(buf, key); err != nil {
			return nil, err
		}
		buf = append(buf, ':')
		if buf, err = appendValue(buf, object[key], depth+1); err != nil {
			return nil, err
		}
	}
	return append(buf, '}'), nil
}

// compareUTF16 orders strings by UTF-16 code units, as RFC 8785 does. It differs
// from Go's own order where U+E000 to U+FFFF meet the planes above.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			var ua, ub [2]uint16
			return slices.Compare(utf16.AppendRune(ua[:0], ra), utf16.AppendRune(ub[:0], rb))
		}
		a, b = a[na:], b[nb:]
	}
	return cmp.Compare(len(a), len(b))
}

func appendString(buf []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%w: string is not valid UTF-8", ErrMalformed)
	}
	buf = append(buf, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			buf = append(buf, '\\', c)
		case c == '\b':
			buf = append(buf, '\\', 'b')
		case c == '\t':
			buf = append(buf, '\\', 't')
		case c == '\n':
			buf = append(buf, '\\', 'n')
		case c == '\f':
			buf = append(buf, '\\', 'f')
		case c == '\r':
			buf = append(buf, '\\', 'r')
		case c < 0x20:
			buf = fmt.Appendf(buf, `\u%04x`, c)
		default:
			buf = append(buf, c)
		}
	}
	return append(buf, '"'), nil
}

// parse reads one JSON value into nil, bool, int64, string, []any and
// map[string]any, and refuses whatever two readers could understand differently.
func parse(data []byte) (any, error) {
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, fmt.Errorf("%w: not JSON in UTF-8", ErrMalformed)
	}
	if hasLoneSurrogate(data) {
		return nil, fmt.Errorf("%w: string with half a surrogate pair", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return readValue(d, 0)
}

func readValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: JSON nested deeper than %d", ErrMalformed, maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch t := token.(type) {
	case json.Number:
		return integer(t.String())
	case json.Delim:
		if t == '[' {
			return readArray(d, depth)
		}
		return readObject(d, depth)
	}
	return token, nil
}

func readArray(d *json.Decoder, depth int) (any, error) {
	values := []any{}
	for d.More() {
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, readEnd(d)
}

func readObject(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		key, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("%w: key is not a string", ErrMalformed)
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("%w: key given twice", ErrMalformed)
		}
		if object[key], err = readValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	return object, readEnd(d)
}

func readEnd(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// integer reads a number in its only canonical spelling: 1, not 1.0, 1e0 or -0.
func integer(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text || n < -maxInteger || n > maxInteger {
		return 0, fmt.Errorf("%w: number is not a plain integer of at most 53 bits", ErrMalformed)
	}
	return n, nil
}

// hasLoneSurrogate reports whether valid JSON text escapes half a surrogate
// pair. encoding/json reads every such half as U+FFFD, so that different texts
// would become the same value.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		if text[1] != 'u' {
			text = text[2:]
			continue
		}
		first := escapedUnit(text)
		text = text[6:]
		if !utf16.IsSurrogate(first) {
			continue
		}
		if !bytes.HasPrefix(text, []byte(`\u`)) || utf16.DecodeRune(first, escapedUnit(text)) == unicode.ReplacementChar {
			return true
		}
		text = text[6:]
	}
}

// escapedUnit is the UTF-16 code unit that \uXXXX at the start of text stands
// for; the JSON syntax has been checked.
func escapedUnit(text []byte) rune {
	var unit rune
	for _, c := range text[2:6] {
		unit = unit<<4 | rune(c&0xf)
		if c > '9' {
			unit += 9
		}
	}
	return unit
}
