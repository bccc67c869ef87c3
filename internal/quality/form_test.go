package quality

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidateNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	sound := func() Definition {
		return form(Average, section(1, choice("a", 1, 0, 10), several("b", 1, 2), numeric("c", 1, 5)))
	}
	for _, c := range []struct {
		name  string
		spoil func(*Definition)
		want  string
	}{
		{"nothing", func(*Definition) {}, ""},
		{"mode", func(d *Definition) { d.Mode = "best" }, "body.mode"},
		{"language", func(d *Definition) { d.Language = "tiếng Việt" }, "body.language"},
		{"no sections", func(d *Definition) { d.Sections = nil }, "body.sections"},
		{"no questions", func(d *Definition) { d.Sections[0].Questions = nil }, "body.sections[0].questions"},
		{"section id", func(d *Definition) { d.Sections[0].ID = "a b" }, "body.sections[0].id"},
		{"section title", func(d *Definition) { d.Sections[0].Title = " " }, "body.sections[0].title"},
		{"section weight", func(d *Definition) { d.Sections[0].Weight = pointer(-1.0) }, "body.sections[0].weight"},
		{"weight not finite", func(d *Definition) { d.Sections[0].Weight = pointer(math.Inf(1)) }, "body.sections[0].weight"},
		{"weight of many decimals", func(d *Definition) { d.Sections[0].Weight = pointer(0.00001) }, "body.sections[0].weight"},
		{"section twice", func(d *Definition) {
			d.Sections = append(d.Sections, d.Sections[0])
			d.Sections[1].Questions = d.Sections[1].Questions[:0:0]
		}, "body.sections[1].id body.sections[1].questions"},
		{"question twice", func(d *Definition) { d.Sections[0].Questions[1].ID = "a" }, "body.sections[0].questions[1].id"},
		{"question text", func(d *Definition) { d.Sections[0].Questions[1].Text = "" }, "body.sections[0].questions[1].text"},
		{"question text with NUL", func(d *Definition) { d.Sections[0].Questions[1].Text = "a\x00" }, "body.sections[0].questions[1].text"},
		{"kind", func(d *Definition) { d.Sections[0].Questions[2].Kind = "stars" }, "body.sections[0].questions[2].kind"},
		{"no options", func(d *Definition) { d.Sections[0].Questions[0].Options = nil }, "body.sections[0].questions[0].options"},
		{"one option", func(d *Definition) { d.Sections[0].Questions[0].Options = d.Sections[0].Questions[0].Options[:1] }, "body.sections[0].questions[0].options"},
		{"options all alike", func(d *Definition) { d.Sections[0].Questions[0].Options[0].Score = 10 }, "body.sections[0].questions[0].options"},
		{"several options worth nothing", func(d *Definition) {
			d.Sections[0].Questions[1].Options[0].Score, d.Sections[0].Questions[1].Options[1].Score = 0, 0
		}, "body.sections[0].questions[1].options"},
		{"option twice", func(d *Definition) { d.Sections[0].Questions[0].Options[1].ID = "0" }, "body.sections[0].questions[0].options[1].id"},
		{"option score", func(d *Definition) { d.Sections[0].Questions[0].Options[1].Score = 11 }, "body.sections[0].questions[0].options[1].score"},
		{"option fail", func(d *Definition) { d.Sections[0].Questions[0].Options[1].Fail = "call" }, "body.sections[0].questions[0].options[1].fail"},
		{"section fail without a score", func(d *Definition) {
			d.Sections[0].Questions[0].Weight = pointer(0.0)
			d.Sections[0].Questions[0].Options[1].Fail = FailSection
		}, "body.sections[0].questions[0].options[1].fail"},
		{"a number without bounds", func(d *Definition) { d.Sections[0].Questions[2].Max = nil }, "body.sections[0].questions[2]"},
		{"bounds upside down", func(d *Definition) { d.Sections[0].Questions[2].Max = pointer(1.0) }, "body.sections[0].questions[2].max"},
		{"bounds too large", func(d *Definition) { d.Sections[0].Questions[2].Max = pointer(1e300) }, "body.sections[0].questions[2].max"},
		{"range upside down", func(d *Definition) { d.Sections[0].Questions[2].Ranges = []Range{{3, 2, FailForm}} }, "body.sections[0].questions[2].ranges[0].max"},
		{"range that fails nothing", func(d *Definition) { d.Sections[0].Questions[2].Ranges = []Range{{1, 2, ""}} }, "body.sections[0].questions[2].ranges[0].fail"},
		{"options of a number", func(d *Definition) { d.Sections[0].Questions[2].Options = d.Sections[0].Questions[0].Options }, "body.sections[0].questions[2]"},
		{"a scored text", func(d *Definition) {
			d.Sections[0].Questions[2] = Question{ID: "c", Text: "c", Kind: Text, Weight: pointer(1.0)}
		}, "body.sections[0].questions[2].weight"},
		{"a weight in points", func(d *Definition) { d.Mode = Points; d.Sections[0].Questions[0].Weight = pointer(2.0) }, "body.sections[0].questions[0].weight"},
		{"negative points", func(d *Definition) { d.Mode = Points; d.Sections[0].Questions[2].Min = pointer(-1.0) }, "body.sections[0].questions[2].min"},
		{"too many questions", func(d *Definition) {
			for i := range maxQuestions {
				d.Sections[0].Questions = append(d.Sections[0].Questions, choice(fmt.Sprintf("x%d", i), 1, 0, 1))
			}
		}, "body.sections"},
		{"too many sections", func(d *Definition) {
			for i := range maxSections {
				s := section(1, choice(fmt.Sprintf("x%d", i), 1, 0, 1))
				s.ID = fmt.Sprintf("x%d", i)
				d.Sections = append(d.Sections, s)
			}
		}, "body.sections"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := sound()
			c.spoil(&d)
			err := d.Validate()
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := strings.Join(locations(t, err), " "); got != c.want {
				t.Errorf("refused at %s, want %s", got, c.want)
			}
		})
	}
}

func TestParseDefinitionIsStrict(t *testing.T) {
	t.Parallel()
	sound, err := json.Marshal(form(Average, section(1, choice("a", 1, 0, 10))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseDefinition(sound); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		``, `[]`, `{`, string(sound) + `{}`, strings.Replace(string(sound), `"score"`, `"scroe"`, 1),
		strings.Replace(string(sound), `"weight":1`, `"weight":1e999`, 1),
	} {
		if _, err := ParseDefinition([]byte(text)); err == nil {
			t.Errorf("%s was let through", text)
		} else {
			locations(t, err)
		}
	}
}

func FuzzParseDefinition(f *testing.F) {
	for _, e := range ExampleForms() {
		text, err := json.Marshal(e.Definition)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"sections":[{"id":"s","title":"S","questions":[{"id":"q","text":"Q","kind":"numeric","min":0,"max":1e9}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDefinition(text)
		if err != nil {
			return
		}
		kept := d.normalised()
		if err := kept.Validate(); err != nil {
			t.Fatalf("what is kept is not valid: %v", err)
		}
		again, err := json.Marshal(kept)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseDefinition(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(kept.normalised(), read.normalised()); diff != "" {
			t.Fatalf("a form comes back otherwise:\n%s", diff)
		}
		var said []Answer
		for _, s := range kept.Sections {
			for _, q := range s.Questions {
				if q.Kind == SingleSelect {
					said = append(said, Answer{Question: q.ID, Option: q.Options[0].ID})
				}
			}
		}
		if r, err := Score(kept, said); err == nil && r.Score != nil && (*r.Score < 0 || *r.Score > 100) {
			t.Fatalf("%v is no percentage", *r.Score)
		}
	})
}
