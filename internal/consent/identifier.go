package consent

import (
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/text/unicode/norm"
)

// noRegion tells phonenumbers to take numbers with a country code only.
const noRegion = "ZZ"

// NormalisePhone returns raw in E.164, such as +84901234567. It takes what
// people and PBXs write: national and international forms with any
// punctuation, digits alone with or without country code or trunk zero, tel:
// and sip: URIs. Numbers without a country code are region's (ISO 3166-1
// alpha-2); an extension behind a number is dropped. It is not ok for what
// names no subscriber of the public network: a PBX's own extensions, service
// codes, "anonymous", addresses without a number.
func NormalisePhone(raw, region string) (e164 string, ok bool) {
	if len(raw) > 256 || !utf8.ValidString(raw) {
		return "", false
	}
	number := numberIn(plain(raw))
	if _, err := netip.ParseAddr(number); err == nil || !dialled.MatchString(number) {
		return "", false
	}
	if strings.Contains(number, "+") {
		return parse(number, noRegion, phonenumbers.IsPossibleNumber)
	}
	if e164, ok := parse(number, region, phonenumbers.IsValidNumber); ok {
		return e164, true
	}
	digits := phonenumbers.NormalizeDigitsOnly(number)
	if strings.HasPrefix(digits, "0") {
		return parse(digits, region, phonenumbers.IsPossibleNumber)
	}
	if len(digits) < 11 {
		return "", false
	}
	// Many PBXs write E.164 without its plus sign.
	return parse("+"+digits, noRegion, phonenumbers.IsValidNumber)
}

var (
	dialled   = regexp.MustCompile(`^[(\p{Zs}]*\+?[\p{Nd}\p{Zs}().\p{Pd}]{3,40}$`)
	e164Form  = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	extension = regexp.MustCompile(`(?i)(?:\p{Zs}*(?:ext\.?|extension|x|#|,|;ext=)\p{Zs}*\p{Nd}{1,8})$`)
	contexts  = regexp.MustCompile(`(?i);phone-context=(\+[0-9]{1,4})`)
)

// plain is text as people meant it: composed, full-width folded, without the
// invisible characters that copying from address books leaves behind.
func plain(raw string) string {
	folded := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, norm.NFKC.String(raw))
	return strings.TrimSpace(folded)
}

// numberIn is the part of an address that may be a number: of a name-addr or
// a sip: URI (RFC 3261) the user, of a tel: URI (RFC 3966) the subscriber.
func numberIn(address string) string {
	if _, inside, found := strings.Cut(address, "<"); found {
		address, _, _ = strings.Cut(inside, ">")
	}
	scheme, rest, found := strings.Cut(address, ":")
	if found {
		switch strings.ToLower(scheme) {
		case "tel", "sip", "sips", "callto":
			address = rest
		default:
			return ""
		}
	}
	if user, _, found := strings.Cut(address, "@"); found {
		user, _, _ = strings.Cut(user, ":")
		address = user
	}
	if unescaped, err := url.PathUnescape(address); err == nil {
		address = unescaped
	}
	return subscriber(address)
}

func subscriber(address string) string {
	prefix := ""
	if m := contexts.FindStringSubmatch(address); m != nil && !strings.HasPrefix(address, "+") {
		prefix = m[1]
	}
	address = extension.ReplaceAllString(address, "")
	address, _, _ = strings.Cut(address, ";")
	return prefix + strings.TrimSpace(address)
}

func parse(number, region string, accepts func(*phonenumbers.PhoneNumber) bool) (e164 string, ok bool) {
	parsed, err := phonenumbers.Parse(number, region)
	if err != nil || !accepts(parsed) {
		return "", false
	}
	if phonenumbers.IsPossibleNumberWithReason(parsed) != phonenumbers.IS_POSSIBLE {
		return "", false
	}
	e164 = phonenumbers.Format(parsed, phonenumbers.E164)
	// What is merely possible may be read differently the second time, and one
	// number must not be two.
	again, err := phonenumbers.Parse(e164, noRegion)
	if err != nil || phonenumbers.Format(again, phonenumbers.E164) != e164 || !e164Form.MatchString(e164) {
		return "", false
	}
	return e164, true
}

// normaliseEmail returns the address alone, in lower case.
func normaliseEmail(raw string) (email string, ok bool) {
	if len(raw) > maxLine*2 || !utf8.ValidString(raw) {
		return "", false
	}
	email = norm.NFC.String(strings.TrimSpace(raw))
	if parsed, err := mail.ParseAddress(email); err == nil {
		email = parsed.Address
	}
	email = norm.NFC.String(strings.ToLower(strings.TrimPrefix(strings.ToLower(email), "mailto:")))
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at == len(email)-1 || len(email) > 254 {
		return "", false
	}
	if strings.ContainsFunc(email, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "", false
	}
	return email, true
}

// normaliseNumber is the company's own number of a customer; case counts.
func normaliseNumber(raw string) (number string, ok bool) {
	number = norm.NFC.String(strings.TrimSpace(raw))
	return number, number != ""
}
