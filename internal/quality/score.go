package quality

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"earmark/internal/invalid"
)

// Answer is what a reviewer said to one question: N/A, or the one field that
// the question's kind asks for.
type Answer struct {
	// Question is the question's id.
	Question string `json:"question"`
	// NA: not applicable; the question counts nowhere.
	NA bool `json:"na,omitempty"`
	// Option is the chosen option's id, for single_select.
	Option string `json:"option,omitempty"`
	// Options are the chosen options' ids, for multi_select; an empty list
	// says that none of them holds.
	Options []string `json:"options,omitzero"`
	// Number is for numeric.
	Number *float64 `json:"number,omitempty"`
	// Text is for text.
	Text string `json:"text,omitempty"`
	// Date is for date: YYYY-MM-DD.
	Date string `json:"date,omitempty"`
	// Comment may go with every answer.
	Comment string `json:"comment,omitempty"`
}

// Result is the outcome of an evaluation. Scores are percentages, rounded half
// up to two decimals; nil: nothing that counts was applicable.
type Result struct {
	Score *float64 `json:"score"`
	// RawScore is what the score would be without a failed form.
	RawScore *float64 `json:"raw_score"`
	// CriticalScore is the score over the critical questions alone.
	CriticalScore *float64 `json:"critical_score"`
	// Failed: an answer failed the whole form.
	Failed   bool            `json:"failed"`
	Sections []SectionResult `json:"sections"`
}

// SectionResult is the outcome of one section.
type SectionResult struct {
	ID     string   `json:"id"`
	Score  *float64 `json:"score"`
	Failed bool     `json:"failed"`
}

const maxComment = 10_000

// Score scores the answers to a form, in exact rationals that are rounded once
// at the end. Answers that do not fit the form, and mandatory questions without
// an answer, are an *invalid.Error with locations such as body.answers[2].option.
func Score(d Definition, answers []Answer) (Result, error) {
	if err := d.Validate(); err != nil {
		return Result{}, fmt.Errorf("score: %w", err)
	}
	given, err := check(d, answers)
	if err != nil {
		return Result{}, err
	}
	return score(d, given), nil
}

// check returns the answers by the ids of their questions.
func check(d Definition, answers []Answer) (map[string]Answer, error) {
	wrong := &invalid.Error{}
	questions := map[string]Question{}
	for _, s := range d.Sections {
		for _, q := range s.Questions {
			questions[q.ID] = q
		}
	}
	given := make(map[string]Answer, len(answers))
	for i, a := range answers {
		at := fmt.Sprintf("body.answers[%d]", i)
		q, known := questions[a.Question]
		if !known {
			wrong.Add(at+".question", "must be the id of a question of this version of the form")
			continue
		}
		if _, twice := given[a.Question]; twice {
			wrong.Add(at+".question", "must not be answered twice")
			continue
		}
		given[a.Question] = a
		q.check(wrong, at, a)
	}
	for _, s := range d.Sections {
		for _, q := range s.Questions {
			if _, answered := given[q.ID]; q.Mandatory && !answered {
				wrong.Add("body.answers", "question %s needs an answer", q.ID)
			}
		}
	}
	return given, wrong.Err()
}

func (q Question) check(wrong *invalid.Error, at string, a Answer) {
	checkWords(wrong, at+".comment", a.Comment)
	fields := map[string]bool{
		"option": a.Option != "", "options": a.Options != nil, "number": a.Number != nil,
		"text": a.Text != "", "date": a.Date != "",
	}
	wanted := map[Kind]string{
		SingleSelect: "option", MultiSelect: "options", Numeric: "number", Text: "text", Date: "date",
	}[q.Kind]
	if a.NA {
		wanted = "na"
		if !q.AllowNA {
			wrong.Add(at+".na", "must be false: this question does not allow N/A")
		}
	}
	for _, name := range []string{"option", "options", "number", "text", "date"} {
		if fields[name] && name != wanted {
			wrong.Add(at+"."+name, "must be left out: the answer is given by %s", wanted)
		}
	}
	if a.NA {
		return
	}
	if !fields[wanted] {
		wrong.Add(at+"."+wanted, "must be given, or the question left out")
		return
	}
	q.checkValue(wrong, at, a)
}

func (q Question) checkValue(wrong *invalid.Error, at string, a Answer) {
	switch q.Kind {
	case SingleSelect:
		if _, ok := q.option(a.Option); !ok {
			wrong.Add(at+".option", "must be the id of one of the question's options")
		}
	case MultiSelect:
		for i, id := range a.Options {
			if _, ok := q.option(id); !ok || slices.Contains(a.Options[:i], id) {
				wrong.Add(fmt.Sprintf("%s.options[%d]", at, i), "must be the id of one of the question's options, each at most once")
			}
		}
	case Numeric:
		if !plainNumber(*a.Number) || *a.Number < *q.Min || *a.Number > *q.Max {
			wrong.Add(at+".number", "must lie between the question's min and max, with at most %d decimals", maxDecimals)
		}
	case Text:
		checkWords(wrong, at+".text", a.Text)
	case Date:
		if _, err := time.Parse(time.DateOnly, a.Date); err != nil {
			wrong.Add(at+".date", "must be a date such as 2026-01-31")
		}
	}
}

// checkWords refuses what is too long, or holds a NUL, which jsonb cannot keep.
func checkWords(wrong *invalid.Error, at, words string) {
	if utf8.RuneCountInString(words) > maxComment || strings.ContainsRune(words, 0) {
		wrong.Add(at, "must be at most %d characters long, without NUL", maxComment)
	}
}

func (q Question) option(id string) (Option, bool) {
	i := slices.IndexFunc(q.Options, func(o Option) bool { return o.ID == id })
	if i < 0 {
		return Option{}, false
	}
	return q.Options[i], true
}

// earned is the points of an answer that check let through.
func (q Question) earned(a Answer) *big.Rat {
	switch q.Kind {
	case SingleSelect:
		o, _ := q.option(a.Option)
		return exact(o.Score)
	case MultiSelect:
		sum := new(big.Rat)
		for _, id := range a.Options {
			o, _ := q.option(id)
			sum.Add(sum, exact(o.Score))
		}
		return sum
	case Numeric:
		return exact(*a.Number)
	}
	return new(big.Rat)
}

// fails says what an answer that check let through brings down.
func (q Question) fails(a Answer) (section, form bool) {
	note := func(f Fail) {
		section = section || f == FailSection
		form = form || f == FailForm
	}
	for _, id := range append(slices.Clone(a.Options), a.Option) {
		o, _ := q.option(id)
		note(o.Fail)
	}
	for _, r := range q.Ranges {
		if a.Number != nil && *a.Number >= r.Min && *a.Number <= r.Max {
			note(r.Fail)
		}
	}
	return section, form
}

// tally is a sum of weighted parts: what was reached and what could be.
type tally struct{ reached, possible big.Rat }

func (t *tally) add(weight, reached, possible *big.Rat) {
	t.reached.Add(&t.reached, new(big.Rat).Mul(weight, reached))
	t.possible.Add(&t.possible, new(big.Rat).Mul(weight, possible))
}

// share is nil when nothing was possible.
func (t *tally) share() *big.Rat {
	if t.possible.Sign() == 0 {
		return nil
	}
	return new(big.Rat).Quo(&t.reached, &t.possible)
}

var one = big.NewRat(1, 1)

func score(d Definition, given map[string]Answer) Result {
	result := Result{Sections: make([]SectionResult, len(d.Sections))}
	var total, critical tally
	for i, s := range d.Sections {
		failed, form := s.fails(given)
		result.Failed = result.Failed || form
		all := s.tally(d.Mode, given, failed, func(Question) bool { return true })
		result.Sections[i] = SectionResult{ID: s.ID, Score: percent(all.share()), Failed: failed}
		total.addSection(d.Mode, s, all)
		some := s.tally(d.Mode, given, failed, func(q Question) bool { return q.Critical })
		critical.addSection(d.Mode, s, some)
	}
	result.RawScore = percent(total.share())
	result.Score = result.RawScore
	result.CriticalScore = percent(critical.share())
	if result.Failed {
		zero := 0.0
		result.Score = &zero
		if result.CriticalScore != nil {
			result.CriticalScore = &zero
		}
	}
	return result
}

func (s Section) fails(given map[string]Answer) (section, form bool) {
	for _, q := range s.Questions {
		qs, qf := q.fails(given[q.ID])
		section, form = section || qs, form || qf
	}
	return section, form
}

// tally sums the section's answered, applicable, scored questions.
func (s Section) tally(mode Mode, given map[string]Answer, failed bool, counts func(Question) bool) *tally {
	t := &tally{}
	for _, q := range s.Questions {
		a, answered := given[q.ID]
		if !answered || a.NA || !q.scored() || !counts(q) {
			continue
		}
		low, high := q.reach()
		if mode == Points {
			t.add(one, q.earned(a), high)
			continue
		}
		span := new(big.Rat).Sub(high, low)
		above := new(big.Rat).Sub(q.earned(a), low)
		t.add(exact(q.weight()), above.Quo(above, span), one)
	}
	if failed {
		t.reached.SetInt64(0)
	}
	return t
}

// addSection adds a section by its weight: in mode average its share, in mode
// points its points.
func (t *tally) addSection(mode Mode, s Section, of *tally) {
	share := of.share()
	if share == nil {
		return
	}
	if mode == Points {
		t.add(exact(s.weight()), &of.reached, &of.possible)
		return
	}
	t.add(exact(s.weight()), share, one)
}

// percent is 100·share, rounded half up to two decimals.
func percent(share *big.Rat) *float64 {
	if share == nil {
		return nil
	}
	hundredths := new(big.Rat).Mul(share, big.NewRat(100*100, 1))
	hundredths.Add(hundredths, big.NewRat(1, 2))
	whole := new(big.Int).Div(hundredths.Num(), hundredths.Denom())
	rounded := float64(whole.Int64()) / 100
	return &rounded
}

// normalised is a as it is kept: what was written in Unicode's NFC.
func (a Answer) normalised() Answer {
	a.Text, a.Comment = norm.NFC.String(a.Text), norm.NFC.String(a.Comment)
	return a
}
