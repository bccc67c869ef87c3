package console

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // small machines have no time zones of their own

	"golang.org/x/text/language"
)

//go:embed language/*.json
var catalogues embed.FS

// languageCookie keeps the language that somebody chose.
const languageCookie = "earmark_language"

// locale is a language: its words, and its way of writing numbers and times.
type locale struct {
	// Tag is of BCP 47, and Name the language's own name.
	Tag, Name string

	words          map[string]string
	thousand, mark string
}

// vietnamese and english are the languages of the pages; the first is spoken
// to those who say nothing else.
var (
	vietnamese = &locale{Tag: "vi", Name: "Tiếng Việt", words: readCatalogue("vi"), thousand: ".", mark: ","}
	english    = &locale{Tag: "en", Name: "English", words: readCatalogue("en"), thousand: ",", mark: "."}
	locales    = []*locale{vietnamese, english}
	spoken     = language.NewMatcher([]language.Tag{language.Vietnamese, language.English})
)

func readCatalogue(tag string) map[string]string {
	data, err := catalogues.ReadFile("language/" + tag + ".json")
	if err != nil {
		panic(err)
	}
	words := map[string]string{}
	if err := json.Unmarshal(data, &words); err != nil {
		panic(fmt.Errorf("catalogue %s: %w", tag, err))
	}
	return words
}

// place is where people look at the clock: all times are shown as they are there.
var place = mustPlace("Asia/Ho_Chi_Minh")

func mustPlace(name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return l
}

// localeOf is the language that was chosen, else the first that the browser
// asks for and there is.
func localeOf(r *http.Request) *locale {
	if cookie, err := r.Cookie(languageCookie); err == nil {
		if l := localeNamed(cookie.Value); l != nil {
			return l
		}
	}
	wanted, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return vietnamese
	}
	_, index, _ := spoken.Match(wanted...)
	return locales[index]
}

func localeNamed(tag string) *locale {
	for _, l := range locales {
		if l.Tag == tag {
			return l
		}
	}
	return nil
}

// say is the text of a key, with {0}, {1} … replaced by the arguments. A key
// that is missing is shown as it is.
func (l *locale) say(key string, args ...any) string {
	text, ok := l.words[key]
	if !ok {
		return key
	}
	for i, arg := range args {
		text = strings.ReplaceAll(text, "{"+strconv.Itoa(i)+"}", l.text(arg))
	}
	return text
}

// knows says whether the catalogue has the key.
func (l *locale) knows(key string) bool {
	_, ok := l.words[key]
	return ok
}

// wrong is what to say of a field that was refused for message, which is the
// operation's own and in English.
func (l *locale) wrong(field, message string) string {
	if key := "field." + field; l.knows(key) {
		return l.say(key)
	}
	return message
}

func (l *locale) text(arg any) string {
	switch arg := arg.(type) {
	case int:
		return l.integer(int64(arg))
	case int64:
		return l.integer(arg)
	case float64:
		return l.decimal(arg, -1)
	case *int:
		return l.integer(int64(*arg))
	case *float64:
		return l.decimal(*arg, -1)
	case time.Time:
		return l.moment(arg)
	default:
		return fmt.Sprint(arg)
	}
}

// integer writes 1234567 as 1.234.567 in Vietnamese.
func (l *locale) integer(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + l.thousand + digits[i:]
	}
	return sign + digits
}

// decimal writes x with that many places, or with as many as it has for -1.
func (l *locale) decimal(x float64, places int) string {
	whole, rest, some := strings.Cut(strconv.FormatFloat(x, 'f', places, 64), ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return whole
	}
	text := l.integer(n)
	if strings.HasPrefix(whole, "-") && n == 0 {
		text = "−" + text
	}
	if some {
		text += l.mark + rest
	}
	return text
}

// bytes writes a size in powers of 1,024, with at most one decimal.
func (l *locale) bytes(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if unit == 0 || size >= 100 {
		return l.decimal(size, 0) + " " + units[unit]
	}
	return l.decimal(size, 1) + " " + units[unit]
}

// moment and day are the way times are written in both languages.
func (l *locale) moment(t time.Time) string { return t.In(place).Format("02/01/2006 15:04") }
func (l *locale) day(t time.Time) string    { return t.In(place).Format("02/01/2006") }

// clock writes milliseconds as minutes and seconds, with hours where there are any.
func clock(ms int64) string {
	s := (ms + 500) / 1000
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// chooseLanguage keeps the choice, and goes back to where it was made.
func (c *Console) chooseLanguage(v *visit) error {
	if l := localeNamed(v.field("language")); l != nil {
		const year = 365 * 24 * 60 * 60
		v.setCookie(languageCookie, l.Tag, year)
	}
	return v.see(ownPath(v.field("back")))
}
