package access

import (
	"slices"
	"strings"
	"unicode/utf8"

	"earmark/internal/invalid"
)

// The lawful bases of draft-howe-vcon-lawful-basis, which are those of
// article 6 of the GDPR.
const (
	Consent             = "consent"
	Contract            = "contract"
	LegalObligation     = "legal_obligation"
	VitalInterests      = "vital_interests"
	PublicTask          = "public_task"
	LegitimateInterests = "legitimate_interests"
)

// Bases are all lawful bases.
var Bases = []string{Consent, Contract, LegalObligation, VitalInterests, PublicTask, LegitimateInterests}

// maxText bounds a reason or a method, in bytes.
const maxText = 2000

// Check notes in e what is wrong with b as a standing basis, one that holds
// for all that a key or a source sends. Locations begin with prefix, such as
// "body.basis".
func (b Basis) Check(e *invalid.Error, prefix string) {
	if !slices.Contains(Bases, b.Basis) {
		e.Add(prefix+".basis", "one of %s", strings.Join(Bases, ", "))
	} else if b.Basis != Consent && strings.TrimSpace(b.Reason) == "" {
		e.Add(prefix+".reason", "say in a sentence why this basis holds; only consent needs no reason")
	}
	CheckPurposes(e, prefix+".purposes", b.Purposes)
	checkText(e, prefix+".method", b.Method, maxText)
	checkText(e, prefix+".reason", b.Reason, maxText)
}

// CheckPurposes notes in e what is wrong with purposes at location. No list at
// all is right; an empty one is not, since it would cover nothing.
func CheckPurposes(e *invalid.Error, location string, purposes []Purpose) {
	if purposes != nil && len(purposes) == 0 {
		e.Add(location, "name at least one purpose, or leave the field out")
	}
	for _, p := range purposes {
		if !p.Valid() {
			e.Add(location, "each one of %s", joined(Purposes))
			return
		}
	}
}

func joined[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, one := range all {
		words[i] = string(one)
	}
	return strings.Join(words, ", ")
}

func checkText(e *invalid.Error, location, text string, limit int) {
	if len(text) > limit {
		e.Add(location, "at most %d bytes", limit)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		e.Add(location, "valid UTF-8 without NUL characters")
	}
}
