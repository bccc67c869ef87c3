package console

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/quality"
)

type assignmentsPage struct {
	archive.Page[quality.Assignment]
	State  quality.AssignmentState
	States []quality.AssignmentState
	Next   string
	Names  names
	Now    time.Time
}

func (c *Console) assignments(v *visit) error {
	p := assignmentsPage{States: quality.AssignmentStates, State: quality.AssignmentState(v.Query("state")), Now: v.now()}
	var err error
	p.Page, err = c.Quality.Assignments(v.Request.Context(), v.actor, quality.AssignmentQuery{
		State: p.State, List: quality.List{Cursor: v.Query("cursor")},
	})
	if err != nil {
		return err
	}
	p.Next = pageAddress(v, p.NextCursor)
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("assignments", "assignments.title", p)
}

// assignment leads to the interaction, beside which the form stands.
func (c *Console) assignment(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	a, err := c.Quality.Assignment(v.Request.Context(), v.actor, id)
	if err != nil {
		return err
	}
	return v.see("/interactions/" + a.InteractionID.String())
}

// scorecard is an assignment with its form and what was answered so far.
type scorecard struct {
	quality.Assignment
	Definition quality.Form
	Form       form
	Reasons    []quality.Reason
	// Again is the revision before, when there is one.
	Again *quality.Evaluation
}

// scorecardOf is the actor's own unfinished assignment of an interaction, nil
// when there is none.
func (c *Console) scorecardOf(v *visit, interaction uuid.UUID) (*scorecard, error) {
	if !v.may(access.Evaluate) {
		return nil, nil
	}
	page, err := c.Quality.Assignments(v.Request.Context(), v.actor, quality.AssignmentQuery{
		InteractionID: &interaction, ReviewerID: &v.actor.Person,
	})
	if err != nil {
		return nil, err
	}
	for _, a := range page.Items {
		if a.State == quality.Assigned || a.State == quality.Submitted {
			return c.scorecard(v, a)
		}
	}
	return nil, nil
}

func (c *Console) scorecard(v *visit, a quality.Assignment) (*scorecard, error) {
	s := &scorecard{Assignment: a, Reasons: quality.Reasons}
	ctx := v.Request.Context()
	var err error
	if s.Definition, err = c.Quality.Form(ctx, v.actor, a.FormID, a.FormVersion); err != nil {
		return nil, err
	}
	if a.State != quality.Submitted {
		return s, nil
	}
	before, err := c.Quality.Evaluations(ctx, v.actor, quality.EvaluationQuery{AssignmentID: &a.ID})
	if err != nil {
		return nil, err
	}
	if len(before.Items) > 0 {
		s.Again = &before.Items[0]
		s.Form.Values = answered(before.Items[0])
	}
	return s, nil
}

// answered is an evaluation as the form's fields hold it.
func answered(e quality.Evaluation) map[string][]string {
	values := map[string][]string{"comment": {e.Comment}}
	for _, a := range e.Answers {
		switch {
		case a.NA:
			values["a."+a.Question] = []string{notApplicable}
		case a.Options != nil:
			values["a."+a.Question] = a.Options
			if len(a.Options) == 0 {
				values["a."+a.Question] = []string{noneOfThem}
			}
		case a.Number != nil:
			values["a."+a.Question] = []string{strconv.FormatFloat(*a.Number, 'f', -1, 64)}
		default:
			values["a."+a.Question] = []string{a.Option + a.Text + a.Date}
		}
		values["c."+a.Question] = []string{a.Comment}
	}
	return values
}

// What the form's fields say beside the ids of options, which have no colon.
const (
	notApplicable = ":na"
	noneOfThem    = ":none"
)

// evaluate submits the form that stands beside an interaction.
func (c *Console) evaluate(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	ctx := v.Request.Context()
	a, err := c.Quality.Assignment(ctx, v.actor, id)
	if err != nil {
		return err
	}
	definition, err := c.Quality.Form(ctx, v.actor, a.FormID, a.FormVersion)
	if err != nil {
		return err
	}
	sent, err := v.sentForm()
	if err != nil {
		return err
	}
	answers, err := readAnswers(definition.Definition, sent)
	if err == nil {
		_, err = c.Quality.Submit(ctx, v.actor, quality.NewEvaluation{AssignmentID: id, Answers: answers, Comment: sent.Get("comment")})
	}
	if err != nil {
		return c.evaluateAgain(v, a, definition, sent, answers, err)
	}
	return v.done("/assignments?state=assigned", "submitted")
}

// evaluateAgain shows the form as it was sent, with what is wrong beside it.
func (c *Console) evaluateAgain(v *visit, a quality.Assignment, definition quality.Form, sent form, answers []quality.Answer, err error) error {
	status, err := sent.refuse(err)
	if err != nil {
		return err
	}
	markMissing(definition.Definition, answers, &sent)
	v.Params = gin.Params{{Key: "id", Value: a.InteractionID.String()}}
	p, err := c.openInteraction(v)
	if err != nil {
		return err
	}
	if p.Scorecard != nil {
		p.Scorecard.Form = sent
	}
	return v.render(status, "interaction", "interaction.title", p)
}

// markMissing notes at each question that needs an answer that it has none.
func markMissing(d quality.Definition, answers []quality.Answer, f *form) {
	given := map[string]bool{}
	for _, a := range answers {
		given[a.Question] = true
	}
	for _, s := range d.Sections {
		for _, q := range s.Questions {
			if q.Mandatory && !given[q.ID] && f.Wrong != nil && f.Wrong["a."+q.ID] == "" {
				f.Wrong["a."+q.ID] = "needs an answer"
			}
		}
	}
}

// readAnswers reads what the form's fields say; questions left alone are left out.
func readAnswers(d quality.Definition, f form) ([]quality.Answer, error) {
	var answers []quality.Answer
	wrong := &invalid.Error{}
	for _, s := range d.Sections {
		for _, q := range s.Questions {
			a, given := readAnswer(q, f, wrong)
			if given {
				a.Comment = strings.TrimSpace(f.Get("c." + q.ID))
				answers = append(answers, a)
			}
		}
	}
	return answers, wrong.Err()
}

func readAnswer(q quality.Question, f form, wrong *invalid.Error) (a quality.Answer, given bool) {
	a.Question = q.ID
	name := "a." + q.ID
	value := strings.TrimSpace(f.Get(name))
	if f.Has(name, notApplicable) {
		a.NA = true
		return a, true
	}
	if value == "" {
		return a, false
	}
	switch q.Kind {
	case quality.SingleSelect:
		a.Option = value
	case quality.MultiSelect:
		a.Options = []string{}
		for _, option := range f.Values[name] {
			if option != noneOfThem {
				a.Options = append(a.Options, option)
			}
		}
	case quality.Numeric:
		n, err := strconv.ParseFloat(strings.Replace(value, ",", ".", 1), 64)
		if err != nil {
			wrong.Add("body."+name, "a number")
			return a, false
		}
		a.Number = &n
	case quality.Text:
		a.Text = value
	case quality.Date:
		a.Date = value
	}
	return a, true
}

// skip gives an assignment up, for a reason.
func (c *Console) skip(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, _, err := c.Quality.Skip(v.Request.Context(), v.actor, id, quality.Reason(v.field("reason"))); err != nil {
		return err
	}
	return v.done("/assignments?state=assigned", "skipped")
}

type evaluationsPage struct {
	archive.Page[quality.Evaluation]
	State quality.AssignmentState
	Next  string
	Names names
}

func (c *Console) evaluations(v *visit) error {
	p := evaluationsPage{State: quality.AssignmentState(v.Query("state"))}
	var err error
	p.Page, err = c.Quality.Evaluations(v.Request.Context(), v.actor, quality.EvaluationQuery{
		State: p.State, List: quality.List{Cursor: v.Query("cursor")},
	})
	if err != nil {
		return err
	}
	p.Next = pageAddress(v, p.NextCursor)
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("evaluations", "evaluations.title", p)
}

// evaluationPage is an evaluation beside the questions it answers.
type evaluationPage struct {
	quality.Evaluation
	Definition quality.Form
	// Answered are the answers by question, Sections the results by section.
	Answered map[string]quality.Answer
	Results  map[string]quality.SectionResult
	// Interaction is nil when it is gone, or not for the actor to see.
	Interaction *archive.Interaction
	Names       names
}

func (c *Console) evaluation(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	ctx := v.Request.Context()
	p := evaluationPage{Answered: map[string]quality.Answer{}, Results: map[string]quality.SectionResult{}}
	if p.Evaluation, err = c.Quality.Evaluation(ctx, v.actor, id); err != nil {
		return err
	}
	if p.Definition, err = c.Quality.Form(ctx, v.actor, p.FormID, p.FormVersion); err != nil {
		return err
	}
	for _, a := range p.Answers {
		p.Answered[a.Question] = a
	}
	for _, r := range p.Sections {
		p.Results[r.ID] = r
	}
	if p.Interaction, err = c.glimpse(v, p.InteractionID); err != nil {
		return err
	}
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("evaluation", "evaluation.title", p)
}

// glimpse is an interaction's metadata, or nil where it is gone or closed.
func (c *Console) glimpse(v *visit, id uuid.UUID) (*archive.Interaction, error) {
	i, err := c.Archive.Get(v.Request.Context(), v.actor, id)
	for _, closed := range []error{db.ErrNotFound, archive.ErrErased, archive.ErrConsentMissing, archive.ErrRestricted, access.ErrForbidden} {
		if errors.Is(err, closed) {
			return nil, nil
		}
	}
	return &i, err
}

func (c *Console) release(v *visit) error {
	id, err := v.id()
	if err != nil {
		return err
	}
	if _, err := c.Quality.Release(v.Request.Context(), v.actor, id); err != nil {
		return err
	}
	return v.done("/evaluations/"+id.String(), "released")
}
