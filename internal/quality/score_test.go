package quality

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"earmark/internal/invalid"
)

func pointer[T any](v T) *T { return &v }

// A form in short: sections of a weight, with questions whose options are
// named by their scores.
func form(mode Mode, sections ...Section) Definition {
	for i := range sections {
		sections[i].ID = fmt.Sprintf("s%d", i+1)
	}
	return Definition{Mode: mode, Sections: sections}
}

func section(weight float64, questions ...Question) Section {
	return Section{Title: "Section", Weight: &weight, Questions: questions}
}

func choice(id string, weight float64, scores ...float64) Question {
	q := Question{ID: id, Text: id, Kind: SingleSelect, Weight: &weight, AllowNA: true}
	for _, s := range scores {
		q.Options = append(q.Options, Option{ID: optionID(s), Text: "Option", Score: s})
	}
	return q
}

func optionID(score float64) string {
	return strings.ReplaceAll(strconv.FormatFloat(score, 'f', -1, 64), ".", "_")
}

func several(id string, scores ...float64) Question {
	q := choice(id, 1, scores...)
	q.Kind = MultiSelect
	return q
}

func numeric(id string, least, most float64, ranges ...Range) Question {
	return Question{ID: id, Text: id, Kind: Numeric, Min: &least, Max: &most, Ranges: ranges, AllowNA: true}
}

func critical(q Question) Question {
	q.Critical = true
	return q
}

// failing makes the option of that score fail something.
func failing(q Question, score float64, f Fail) Question {
	for i := range q.Options {
		if q.Options[i].Score == score {
			q.Options[i].Fail = f
		}
	}
	return q
}

// answers reads "a=10 b=na c=3+4 d=#4.5": an option, not applicable, several
// options, a number.
func answers(text string) []Answer {
	var all []Answer
	for _, field := range strings.Fields(text) {
		id, value, _ := strings.Cut(field, "=")
		a := Answer{Question: id}
		switch {
		case value == "na":
			a.NA = true
		case value == "none":
			a.Options = []string{}
		case strings.HasPrefix(value, "#"):
			number, err := strconv.ParseFloat(value[1:], 64)
			if err != nil {
				panic(err)
			}
			a.Number = &number
		case strings.Contains(value, "+"):
			a.Options = strings.Split(value, "+")
		default:
			a.Option = value
		}
		all = append(all, a)
	}
	return all
}

func shown(score *float64) string {
	if score == nil {
		return "null"
	}
	return strconv.FormatFloat(*score, 'f', 2, 64)
}

func TestScoreWorkedExamples(t *testing.T) {
	t.Parallel()
	yesNo := func(id string, weight float64) Question { return choice(id, weight, 0, 10) }
	unequal := []Section{section(40, choice("a", 1, 0, 1, 2)), section(20, choice("b", 1, 0, 1))}
	for _, c := range []struct {
		name    string
		form    Definition
		answers string
		// score, raw score, critical score
		want string
	}{
		{"one question, best", form(Average, section(1, yesNo("a", 1))), "a=10", "100.00 100.00 null"},
		{"one question, worst", form(Average, section(1, yesNo("a", 1))), "a=0", "0.00 0.00 null"},
		// (40·1/2 + 20·1) / 60 = 2/3
		{"unequal sections, average", form(Average, unequal...), "a=1 b=1", "66.67 66.67 null"},
		// (40·1 + 20·1) / (40·2 + 20·1) = 60/100
		{"unequal sections, points", form(Points, unequal...), "a=1 b=1", "60.00 60.00 null"},
		{"the mode left out is average", form("", unequal...), "a=1 b=1", "66.67 66.67 null"},
		// (1·1 + 3·0) / 4
		{"weights of questions", form(Average, section(1, yesNo("a", 1), yesNo("b", 3))), "a=10 b=0", "25.00 25.00 null"},
		// (1·0 + 2·1) / 3
		{"two thirds", form(Average, section(1, yesNo("a", 1), yesNo("b", 2))), "a=0 b=10", "66.67 66.67 null"},
		{"a scale, one of three", form(Average, section(1, choice("a", 1, 0, 1, 2, 3))), "a=1", "33.33 33.33 null"},
		{"a scale, two of three", form(Average, section(1, choice("a", 1, 0, 1, 2, 3))), "a=2", "66.67 66.67 null"},
		// 1/800 = 0.125 %: half up; half to even would say 0.12
		{"half is rounded up", form(Average, section(1, yesNo("a", 1), yesNo("b", 799))), "a=10 b=0", "0.13 0.13 null"},
		// 3/800 = 0.375 %
		{"half is rounded up again", form(Average, section(1, yesNo("a", 3), yesNo("b", 797))), "a=10 b=0", "0.38 0.38 null"},
		// 1/801 = 0.12484… %
		{"less than half is rounded down", form(Average, section(1, yesNo("a", 1), yesNo("b", 800))), "a=10 b=0", "0.12 0.12 null"},
		// 1 − 1/20,001 < 100: 99.995000… % rounds up
		{"nearly everything", form(Average, section(1, yesNo("a", 1000), yesNo("b", 0.05))), "a=10 b=0", "100.00 100.00 null"},
		// 1/3 and 2/3 make exactly one half
		{"thirds add up exactly", form(Average, section(1, choice("a", 1, 0, 1, 2, 3)), section(1, choice("b", 1, 0, 1, 2, 3))), "a=1 b=2", "50.00 50.00 null"},
		// (1/3 + 2/3 + 1) / 3 = 2/3
		{"three sections", form(Average, section(1, choice("a", 1, 0, 1, 2, 3)), section(1, choice("b", 1, 0, 1, 2, 3)), section(1, yesNo("c", 1))), "a=1 b=2 c=10", "66.67 66.67 null"},
		// 0.1 / (0.1 + 0.2) = 1/3, which binary fractions miss
		{"decimal weights", form(Average, section(1, yesNo("a", 0.1), yesNo("b", 0.2))), "a=10 b=0", "33.33 33.33 null"},
		{"not applicable is left out", form(Average, section(1, yesNo("a", 1), yesNo("b", 1))), "a=10 b=na", "100.00 100.00 null"},
		{"not applicable helps nobody", form(Average, section(1, yesNo("a", 1), yesNo("b", 1))), "a=0 b=na", "0.00 0.00 null"},
		{"nothing applicable has no score", form(Average, section(1, critical(yesNo("a", 1)), yesNo("b", 1))), "a=na b=na", "null null null"},
		{"nothing applicable has no score in points", form(Points, section(1, yesNo("a", 1))), "a=na", "null null null"},
		{"nothing answered has no score", form(Average, section(1, yesNo("a", 1))), "", "null null null"},
		{"a section not applicable loses its weight", form(Average, section(40, yesNo("a", 1)), section(20, choice("b", 1, 0, 1, 2))), "a=na b=1", "50.00 50.00 null"},
		{"an optional question unanswered is left out", form(Average, section(1, yesNo("a", 1), yesNo("b", 1))), "a=10", "100.00 100.00 null"},
		// (40·0 + 60·1) / 100
		{"a failed section keeps its weight", form(Average, section(40, failing(yesNo("a", 1), 0, FailSection), yesNo("b", 1)), section(60, yesNo("c", 1))), "a=0 b=10 c=10", "60.00 60.00 null"},
		{"an option that fails and is not chosen fails nothing", form(Average, section(40, failing(yesNo("a", 1), 0, FailSection), yesNo("b", 1)), section(60, yesNo("c", 1))), "a=10 b=10 c=10", "100.00 100.00 null"},
		// (40·0 + 20·1) / (40·2 + 20·1)
		{"a failed section, points", form(Points, section(40, failing(choice("a", 1, 0, 1, 2), 1, FailSection)), section(20, choice("b", 1, 0, 1))), "a=1 b=1", "20.00 20.00 null"},
		{"a failed form keeps its raw score", form(Average, section(1, failing(yesNo("a", 1), 0, FailForm), yesNo("b", 1))), "a=0 b=10", "0.00 50.00 null"},
		// raw (40·1/2 + 60·1) / 100
		{"a failed form, two sections", form(Average, section(40, failing(yesNo("a", 1), 0, FailForm), yesNo("b", 1)), section(60, yesNo("c", 1))), "a=0 b=10 c=10", "0.00 80.00 null"},
		// raw (40·0 + 60·1) / 100
		{"a failed form with a failed section", form(Average, section(40, failing(yesNo("a", 1), 0, FailSection), yesNo("b", 1)), section(60, failing(yesNo("c", 1), 10, FailForm))), "a=0 b=10 c=10", "0.00 60.00 null"},
		{"a failed form, points", form(Points, section(1, failing(choice("a", 1, 0, 1, 2), 1, FailForm))), "a=1", "0.00 50.00 null"},
		{"an unscored question can fail the form", form(Average, section(1, failing(choice("a", 0, 0, 10), 0, FailForm), yesNo("b", 1))), "a=0 b=10", "0.00 100.00 null"},
		{"an unscored question alone can fail the form", form(Average, section(1, failing(choice("a", 0, 0, 10), 0, FailForm))), "a=0", "0.00 null null"},
		{"an unscored question counts nowhere", form(Average, section(1, yesNo("a", 1), yesNo("b", 0))), "a=10 b=0", "100.00 100.00 null"},
		{"a section of weight 0 counts nowhere", form(Average, section(1, yesNo("a", 1)), section(0, yesNo("b", 1))), "a=10 b=0", "100.00 100.00 null"},
		{"sections of weight 0 alone have no score", form(Average, section(0, yesNo("a", 1))), "a=10", "null null null"},
		// (3 + 4) / 10
		{"several options", form(Average, section(1, several("a", 3, 4, 2, 1))), "a=3+4", "70.00 70.00 null"},
		{"none of several options", form(Average, section(1, several("a", 3, 4, 2, 1))), "a=none", "0.00 0.00 null"},
		{"all of several options", form(Average, section(1, several("a", 3, 4, 2, 1))), "a=1+2+3+4", "100.00 100.00 null"},
		// (0.1 + 0.2) / (0.1 + 0.2 + 0.3) = 1/2
		{"several options with decimals", form(Average, section(1, several("a", 0.1, 0.2, 0.3))), "a=0_1+0_2", "50.00 50.00 null"},
		{"several options, points", form(Points, section(1, several("a", 3, 4, 2, 1), choice("b", 1, 0, 10))), "a=3+4 b=0", "35.00 35.00 null"},
		// (4 − 1) / (5 − 1)
		{"a number", form(Average, section(1, numeric("a", 1, 5))), "a=#4", "75.00 75.00 null"},
		{"a number with decimals", form(Average, section(1, numeric("a", 1, 5))), "a=#4.5", "87.50 87.50 null"},
		{"a number below zero", form(Average, section(1, numeric("a", -10, 10))), "a=#-5", "25.00 25.00 null"},
		{"a number, points", form(Points, section(1, numeric("a", 1, 5))), "a=#4", "80.00 80.00 null"},
		{"a number in a failing range", form(Average, section(1, numeric("a", 1, 5, Range{1, 1.5, FailSection}), yesNo("b", 1)), section(1, yesNo("c", 1))), "a=#1.5 b=10 c=10", "50.00 50.00 null"},
		{"a number beside a failing range", form(Average, section(1, numeric("a", 1, 5, Range{1, 1.5, FailForm}))), "a=#2", "25.00 25.00 null"},
		// (7 − 5) / (10 − 5)
		{"a scale that does not begin at zero", form(Average, section(1, choice("a", 1, 5, 7, 10))), "a=7", "40.00 40.00 null"},
		{"a scale that does not begin at zero, points", form(Points, section(1, choice("a", 1, 5, 7, 10))), "a=5", "50.00 50.00 null"},
		// (1·3 + 2·8) / (1·5 + 2·10) = 19/25
		{"not applicable, points", form(Points, section(1, numeric("a", 0, 5), yesNo("b", 1)), section(2, numeric("c", 0, 10))), "a=#3 b=na c=#8", "76.00 76.00 null"},
		{"a critical question beside another", form(Average, section(1, critical(yesNo("a", 1)), yesNo("b", 1))), "a=10 b=0", "50.00 50.00 100.00"},
		// total (30·1/2 + 10·1/2) / 40; critical (30·1/2 + 10·1) / 40
		{"critical questions of two sections", form(Average, section(30, critical(choice("a", 1, 0, 1, 2))), section(10, critical(yesNo("b", 1)), yesNo("c", 1))), "a=1 b=10 c=0", "50.00 50.00 62.50"},
		{"a critical question not applicable", form(Average, section(1, critical(yesNo("a", 1)), yesNo("b", 1))), "a=na b=10", "100.00 100.00 null"},
		{"a failed form fails the critical score", form(Average, section(1, critical(yesNo("a", 1)), failing(yesNo("b", 1), 0, FailForm))), "a=10 b=0", "0.00 50.00 0.00"},
		{"a failed section fails its critical questions", form(Average, section(1, critical(yesNo("a", 1)), failing(yesNo("b", 1), 0, FailSection)), section(3, critical(yesNo("c", 1)))), "a=10 b=0 c=10", "75.00 75.00 75.00"},
		// (1·2 + 1·0) / (1·2 + 1·10), of the critical 2/2
		{"critical, points", form(Points, section(1, critical(choice("a", 1, 0, 1, 2)), yesNo("b", 1))), "a=2 b=0", "16.67 16.67 100.00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Score(c.form, answers(c.answers))
			if err != nil {
				t.Fatal(err)
			}
			got := shown(r.Score) + " " + shown(r.RawScore) + " " + shown(r.CriticalScore)
			if got != c.want {
				t.Errorf("score, raw, critical: %s, want %s", got, c.want)
			}
			if failed := shown(r.Score) != shown(r.RawScore); failed && !r.Failed {
				t.Errorf("the score differs from the raw score, and the form did not fail")
			}
		})
	}
}

func TestScoreOfTheExampleForms(t *testing.T) {
	t.Parallel()
	said := append(answers(`greeting=full announcement=na verified=yes sensitive=na
		listening=let_finish+summed_up correctness=#4 resolved=next_step holding=na tone=#5 closing=one`),
		Answer{Question: "strength", Text: "Kiên nhẫn"}, Answer{Question: "coaching_by", Date: "2026-06-01"})
	for _, f := range ExampleForms() {
		if err := f.Validate(); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		got, err := Score(f.Definition, said)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		// Handling: (1·7/10 + 2·3/4 + 2·8/10) / 5 = 76 %; manner: (1 + 1/2) / 2.
		// Form: (15·1 + 25·1 + 40·0.76 + 20·0.75) / 100.
		want := Result{
			Score: pointer(85.4), RawScore: pointer(85.4), CriticalScore: pointer(100.0),
			Sections: []SectionResult{
				{ID: "opening", Score: pointer(100.0)}, {ID: "identity", Score: pointer(100.0)},
				{ID: "handling", Score: pointer(76.0)}, {ID: "manner", Score: pointer(75.0)}, {ID: "notes"},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
}

func TestExampleFormsAskTheSame(t *testing.T) {
	t.Parallel()
	type asked struct {
		id     string
		kind   Kind
		weight float64
	}
	var all [2][]asked
	for i, f := range ExampleForms() {
		for _, s := range f.Sections {
			for _, q := range s.Questions {
				all[i] = append(all[i], asked{q.ID, q.Kind, q.weight() * s.weight()})
			}
		}
	}
	if diff := cmp.Diff(all[0], all[1], cmp.AllowUnexported(asked{})); diff != "" {
		t.Errorf("the two languages differ:\n%s", diff)
	}
}

// locations are where an *invalid.Error finds something wrong.
func locations(t *testing.T, err error) []string {
	t.Helper()
	var wrong *invalid.Error
	if !errors.As(err, &wrong) {
		t.Fatalf("%v is no *invalid.Error", err)
	}
	var all []string
	for _, f := range wrong.Fields {
		all = append(all, f.Location)
	}
	return all
}

func TestScoreRefusesAnswersThatDoNotFit(t *testing.T) {
	t.Parallel()
	mandatory := choice("a", 1, 0, 10)
	mandatory.Mandatory, mandatory.AllowNA = true, false
	d := form(Average, section(1, mandatory, several("b", 1, 2), numeric("c", 1, 5),
		Question{ID: "d", Text: "d", Kind: Text}, Question{ID: "e", Text: "e", Kind: Date}))
	for _, c := range []struct {
		name    string
		answers []Answer
		want    string
	}{
		{"a mandatory question unanswered", nil, "body.answers"},
		{"N/A where it is not allowed", answers("a=na"), "body.answers[0].na"},
		{"an unknown question", answers("a=10 z=10"), "body.answers[1].question"},
		{"a question twice", answers("a=10 a=0"), "body.answers[1].question"},
		{"an unknown option", answers("a=7"), "body.answers[0].option"},
		{"an option twice", answers("a=10 b=1+1"), "body.answers[1].options[1]"},
		{"an unknown option of several", answers("a=10 b=1+9"), "body.answers[1].options[1]"},
		{"a number beyond the bounds", answers("a=10 c=#5.1"), "body.answers[1].number"},
		{"a number of many decimals", answers("a=10 c=#1.00001"), "body.answers[1].number"},
		{"a date that is none", []Answer{{Question: "a", Option: "10"}, {Question: "e", Date: "2026-02-30"}}, "body.answers[1].date"},
		{"a text with NUL", []Answer{{Question: "a", Option: "10"}, {Question: "d", Text: "\x00"}}, "body.answers[1].text"},
		{"a text too long", []Answer{{Question: "a", Option: "10"}, {Question: "d", Text: strings.Repeat("ữ", maxComment+1)}}, "body.answers[1].text"},
		{"a comment too long", []Answer{{Question: "a", Option: "10", Comment: strings.Repeat("x", maxComment+1)}}, "body.answers[0].comment"},
		{"the wrong field", []Answer{{Question: "a", Text: "yes"}}, "body.answers[0].text body.answers[0].option"},
		{"N/A with a value", []Answer{{Question: "a", Option: "10"}, {Question: "c", NA: true, Number: pointer(2.0)}}, "body.answers[1].number"},
		{"no value", []Answer{{Question: "a", Option: "10"}, {Question: "c"}}, "body.answers[1].number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Score(d, c.answers)
			if got := strings.Join(locations(t, err), " "); got != c.want {
				t.Errorf("refused at %s, want %s", got, c.want)
			}
		})
	}
}

func TestScoreIsAPercentageInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d, said := drawnForm(t)
		r, err := Score(d, said)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*float64{r.Score, r.RawScore, r.CriticalScore} {
			if s != nil && (*s < 0 || *s > 100) {
				t.Fatalf("%v is no percentage", *s)
			}
		}
		again, err := Score(d, rapid.Permutation(said).Draw(t, "order"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatalf("the order of answers matters:\n%s", diff)
		}
	})
}

// drawnForm draws a form and answers that fit it.
func drawnForm(t *rapid.T) (d Definition, said []Answer) {
	var sections []Section
	for s := range rapid.IntRange(1, 4).Draw(t, "sections") {
		var questions []Question
		for i := range rapid.IntRange(1, 4).Draw(t, "questions") {
			q := choice(fmt.Sprintf("q%d_%d", s, i), 1, 0, 3, 10)
			q.Critical = rapid.Bool().Draw(t, "critical")
			q = failing(q, 0, rapid.SampledFrom([]Fail{"", "", FailSection, FailForm}).Draw(t, "fail"))
			questions = append(questions, q)
			switch answer := rapid.SampledFrom([]string{"0", "3", "10", "na", ""}).Draw(t, "answer"); answer {
			case "":
			case "na":
				said = append(said, Answer{Question: q.ID, NA: true})
			default:
				said = append(said, Answer{Question: q.ID, Option: answer})
			}
		}
		sections = append(sections, section(float64(rapid.IntRange(0, 50).Draw(t, "weight")), questions...))
	}
	return form(rapid.SampledFrom([]Mode{Average, Points}).Draw(t, "mode"), sections...), said
}
