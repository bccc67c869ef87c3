package quality

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"earmark/internal/invalid"
)

// Mode is how the points of a form become one score.
type Mode string

// The modes. With s = (earned − min) / (max − min) of a question of weight w,
// and W the weight of a section:
const (
	// Average: a section scores Σ w·s / Σ w, the form Σ W·S / Σ W.
	Average Mode = "average"
	// Points: the form scores Σ W·ΣP / Σ W·ΣPmax, P being the points earned.
	Points Mode = "points"
)

// Kind is what a question is answered with.
type Kind string

// The kinds of questions. Text and date are never scored.
const (
	SingleSelect Kind = "single_select"
	MultiSelect  Kind = "multi_select"
	Numeric      Kind = "numeric"
	Text         Kind = "text"
	Date         Kind = "date"
)

// Fail is what a bad enough answer brings down.
type Fail string

// What an answer can fail.
const (
	// FailSection: the section scores 0 and keeps its weight.
	FailSection Fail = "section"
	// FailForm: the final score is 0; the raw score is kept beside it.
	FailForm Fail = "form"
)

// Definition is what a form asks and how the answers are scored. Once
// published as a version of a form it never changes.
type Definition struct {
	// Language of the texts, a BCP 47 tag such as "vi" or "en".
	Language string `json:"language,omitempty"`
	// Mode is Average when empty.
	Mode     Mode      `json:"mode,omitempty"`
	Sections []Section `json:"sections"`
}

// Section is a part of a form, with a weight of its own.
type Section struct {
	// ID is unique in the form: letters, digits, "_" and "-".
	ID    string `json:"id"`
	Title string `json:"title"`
	// Weight is 1 when left out; 0: what is in it does not count.
	Weight    *float64   `json:"weight,omitempty"`
	Questions []Question `json:"questions"`
}

// Question is one thing to judge.
type Question struct {
	// ID is unique in the form: letters, digits, "_" and "-".
	ID   string `json:"id"`
	Text string `json:"text"`
	// Help tells reviewers what to look for.
	Help string `json:"help,omitempty"`
	Kind Kind   `json:"kind"`
	// Weight is 1 when left out, and 0 for text and date; 0: not scored.
	Weight *float64 `json:"weight,omitempty"`
	// Options are what a single-select or multi-select question offers.
	Options []Option `json:"options,omitempty"`
	// Min and Max bound a numeric answer, both inclusive.
	Min *float64 `json:"min,omitempty"`
	Max *float64 `json:"max,omitempty"`
	// Ranges of a numeric answer that fail the section or the form.
	Ranges []Range `json:"ranges,omitempty"`
	// AllowNA: the question may be answered "not applicable" and then counts nowhere.
	AllowNA bool `json:"allow_na,omitempty"`
	// Critical: the question counts in the critical score too.
	Critical bool `json:"critical,omitempty"`
	// Mandatory: without an answer, or N/A where that is allowed, nothing is submitted.
	Mandatory bool `json:"mandatory,omitempty"`
}

// Option is one answer that a question offers.
type Option struct {
	// ID is unique in the question: letters, digits, "_" and "-".
	ID   string `json:"id"`
	Text string `json:"text"`
	// Score is 0 to 10.
	Score float64 `json:"score"`
	Fail  Fail    `json:"fail,omitempty"`
}

// Range is a range of a numeric answer, both ends inclusive.
type Range struct {
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
	Fail Fail    `json:"fail"`
}

const (
	maxSections  = 100
	maxQuestions = 100
	maxOptions   = 100
	maxRanges    = 20
	maxTitle     = 200
	maxText      = 2000
	maxScore     = 10
	maxWeight    = 1000
	maxNumber    = 1e9
	maxDecimals  = 4
)

var (
	idPattern       = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	languagePattern = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`)
)

// ParseDefinition reads a definition from JSON, strictly: an unknown field or
// anything behind it is an *invalid.Error, as is whatever Validate refuses.
func ParseDefinition(data []byte) (Definition, error) {
	var d Definition
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return Definition{}, invalid.New("body", "must be a form definition in JSON, with no other fields than those documented")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Definition{}, invalid.New("body", "must hold one form definition and nothing behind it")
	}
	return d, d.Validate()
}

// Validate returns an *invalid.Error that names every field that is wrong,
// with locations such as body.sections[0].questions[2].options.
func (d Definition) Validate() error {
	v := formCheck{questions: map[string]bool{}}
	v.definition(d)
	return v.Err()
}

// formCheck gathers what is wrong with a definition.
type formCheck struct {
	invalid.Error
	points    bool
	questions map[string]bool
}

func (v *formCheck) definition(d Definition) {
	if d.Language != "" && !languagePattern.MatchString(d.Language) {
		v.Add("body.language", "must be a language tag such as vi or en")
	}
	if d.Mode != "" && d.Mode != Average && d.Mode != Points {
		v.Add("body.mode", "must be average or points")
	}
	v.points = d.Mode == Points
	if len(d.Sections) == 0 || len(d.Sections) > maxSections {
		v.Add("body.sections", "must hold 1 to %d sections", maxSections)
		return
	}
	seen := map[string]bool{}
	for i, s := range d.Sections {
		at := fmt.Sprintf("body.sections[%d]", i)
		v.id(at+".id", s.ID, seen)
		v.text(at+".title", s.Title, maxTitle)
		v.weight(at+".weight", s.Weight)
		if len(s.Questions) == 0 {
			v.Add(at+".questions", "must hold at least one question")
		}
		for j, q := range s.Questions {
			v.question(fmt.Sprintf("%s.questions[%d]", at, j), q)
		}
	}
	if total := d.questionCount(); total > maxQuestions {
		v.Add("body.sections", "must hold at most %d questions together", maxQuestions)
	}
}

func (d Definition) questionCount() (n int) {
	for _, s := range d.Sections {
		n += len(s.Questions)
	}
	return n
}

func (v *formCheck) question(at string, q Question) {
	v.id(at+".id", q.ID, v.questions)
	v.text(at+".text", q.Text, maxText)
	if q.Help != "" {
		v.text(at+".help", q.Help, maxText)
	}
	v.weight(at+".weight", q.Weight)
	if v.points && q.Weight != nil && *q.Weight != 0 && *q.Weight != 1 {
		v.Add(at+".weight", "must be 1, or 0 for a question that is not scored: with mode points the points are the weights")
	}
	switch q.Kind {
	case SingleSelect, MultiSelect:
		v.options(at, q)
		v.absent(at, q.Min != nil || q.Max != nil || len(q.Ranges) > 0, "min, max and ranges", "numeric")
	case Numeric:
		v.bounds(at, q)
		v.absent(at, len(q.Options) > 0, "options", "single_select and multi_select")
	case Text, Date:
		v.absent(at, len(q.Options) > 0, "options", "single_select and multi_select")
		v.absent(at, q.Min != nil || q.Max != nil || len(q.Ranges) > 0, "min, max and ranges", "numeric")
		if q.Weight != nil && *q.Weight != 0 {
			v.Add(at+".weight", "must be left out or 0: text and date are not scored")
		}
		if q.Critical {
			v.Add(at+".critical", "must be false: text and date are not scored")
		}
	default:
		v.Add(at+".kind", "must be single_select, multi_select, numeric, text or date")
	}
}

func (v *formCheck) absent(at string, present bool, what, kinds string) {
	if present {
		v.Add(at, "%s are for questions of kind %s", what, kinds)
	}
}

func (v *formCheck) options(at string, q Question) {
	least := 1
	if q.Kind == SingleSelect {
		least = 2
	}
	if len(q.Options) < least || len(q.Options) > maxOptions {
		v.Add(at+".options", "must hold %d to %d options", least, maxOptions)
		return
	}
	seen, before := map[string]bool{}, len(v.Fields)
	for i, o := range q.Options {
		at := fmt.Sprintf("%s.options[%d]", at, i)
		v.id(at+".id", o.ID, seen)
		v.text(at+".text", o.Text, maxTitle)
		if !v.number(at+".score", o.Score) {
			continue
		}
		if o.Score < 0 || o.Score > maxScore {
			v.Add(at+".score", "must be 0 to %d", maxScore)
		}
		if o.Fail != "" {
			v.fail(at+".fail", o.Fail, q)
		}
	}
	if sound := len(v.Fields) == before; sound && q.scored() && !q.discerns() {
		v.Add(at+".options", "must differ in score, or the question must have weight 0")
	}
}

func (v *formCheck) bounds(at string, q Question) {
	if q.Min == nil || q.Max == nil {
		v.Add(at, "a numeric question needs min and max")
		return
	}
	if !v.number(at+".min", *q.Min) || !v.number(at+".max", *q.Max) {
		return
	}
	if *q.Min >= *q.Max {
		v.Add(at+".max", "must be greater than min")
	}
	if v.points && *q.Min < 0 {
		v.Add(at+".min", "must not be negative: with mode points the number is the points")
	}
	if len(q.Ranges) > maxRanges {
		v.Add(at+".ranges", "must hold at most %d ranges", maxRanges)
	}
	for i, r := range q.Ranges {
		at := fmt.Sprintf("%s.ranges[%d]", at, i)
		if v.number(at+".min", r.Min) && v.number(at+".max", r.Max) && r.Min > r.Max {
			v.Add(at+".max", "must not be less than min")
		}
		v.fail(at+".fail", r.Fail, q)
	}
}

func (v *formCheck) fail(at string, f Fail, q Question) {
	if f != FailSection && f != FailForm {
		v.Add(at, "must be section or form")
	}
	if f == FailSection && !q.scored() {
		v.Add(at, "must be form, or the question must have a weight: a section without a score cannot be failed")
	}
}

func (v *formCheck) id(at, id string, seen map[string]bool) {
	if !idPattern.MatchString(id) {
		v.Add(at, "must be 1 to 64 letters, digits, _ or -")
		return
	}
	if seen[id] {
		v.Add(at, "must not be used twice")
	}
	seen[id] = true
}

func (v *formCheck) text(at, text string, most int) {
	if strings.TrimSpace(text) == "" || utf8.RuneCountInString(text) > most || strings.ContainsRune(text, 0) {
		v.Add(at, "must be 1 to %d characters long, without NUL", most)
	}
}

func (v *formCheck) weight(at string, w *float64) {
	if w == nil || !v.number(at, *w) {
		return
	}
	if *w < 0 || *w > maxWeight {
		v.Add(at, "must be 0 to %d", maxWeight)
	}
}

// number says whether f can be reckoned with exactly.
func (v *formCheck) number(at string, f float64) bool {
	if plainNumber(f) {
		return true
	}
	v.Add(at, "must be a number with at most %d decimals, between -%.0f and %.0f", maxDecimals, maxNumber, maxNumber)
	return false
}

func plainNumber(f float64) bool {
	if math.IsNaN(f) || math.Abs(f) > maxNumber {
		return false
	}
	_, decimals, _ := strings.Cut(strconv.FormatFloat(f, 'f', -1, 64), ".")
	return len(decimals) <= maxDecimals
}

// normalised is d as it is kept: texts in Unicode's NFC, what was left out filled in.
func (d Definition) normalised() Definition {
	if d.Mode == "" {
		d.Mode = Average
	}
	sections := make([]Section, len(d.Sections))
	for i, s := range d.Sections {
		s.Title = norm.NFC.String(s.Title)
		s.Weight = filled(s.Weight, 1)
		questions := make([]Question, len(s.Questions))
		for j, q := range s.Questions {
			questions[j] = q.normalised()
		}
		s.Questions = questions
		sections[i] = s
	}
	d.Sections = sections
	return d
}

func (q Question) normalised() Question {
	q.Text, q.Help = norm.NFC.String(q.Text), norm.NFC.String(q.Help)
	q.Weight = filled(q.Weight, q.weight())
	var options []Option
	for _, o := range q.Options {
		o.Text = norm.NFC.String(o.Text)
		options = append(options, o)
	}
	q.Options = options
	return q
}

func filled(f *float64, otherwise float64) *float64 {
	if f != nil {
		return f
	}
	return &otherwise
}

func (s Section) weight() float64 { return *filled(s.Weight, 1) }

func (q Question) weight() float64 {
	if q.Kind == Text || q.Kind == Date {
		return 0
	}
	return *filled(q.Weight, 1)
}

func (q Question) scored() bool { return q.weight() > 0 }

// discerns says whether answers can differ in what they earn.
func (q Question) discerns() bool {
	low, high := q.reach()
	return low.Cmp(high) < 0
}

// reach is the least and the most that the question can earn.
func (q Question) reach() (low, high *big.Rat) {
	low, high = new(big.Rat), new(big.Rat)
	switch q.Kind {
	case Numeric:
		return exact(*q.Min), exact(*q.Max)
	case MultiSelect:
		for _, o := range q.Options {
			high.Add(high, exact(o.Score))
		}
	case SingleSelect:
		byScore := func(a, b Option) int { return cmp.Compare(a.Score, b.Score) }
		low = exact(slices.MinFunc(q.Options, byScore).Score)
		high = exact(slices.MaxFunc(q.Options, byScore).Score)
	}
	return low, high
}

// exact is the number that f was written as: 0.1 is one tenth.
func exact(f float64) *big.Rat {
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', -1, 64))
	if !ok {
		panic("quality: a number that is not finite was let through")
	}
	return r
}
