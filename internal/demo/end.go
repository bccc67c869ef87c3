package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"earmark/internal/quality"
)

func (d *demo) draw(ctx context.Context) error {
	supervisor := d.keys["supervisor"]
	var form, plan struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	if err := supervisor.ask(ctx, "/v1/forms", quality.ExampleForms()[0], &form); err != nil {
		return err
	}
	d.say("a form: %s", form.Name)
	err := supervisor.ask(ctx, "/v1/sampling-plans", map[string]any{
		"name": "Weekly, one an agent", "form_id": form.ID, "per_agent": 1, "filter": map[string]any{"channel": "voice"},
	}, &plan)
	if err != nil {
		return err
	}
	var draw struct {
		ID         string `json:"id"`
		Picked     int    `json:"picked"`
		Eligible   int    `json:"eligible"`
		Commitment string `json:"seed_commitment"`
	}
	err = supervisor.ask(ctx, "/v1/sampling-plans/"+plan.ID+"/draws", map[string]any{
		"from": d.recorded[0].started.Add(-time.Hour).Format(time.RFC3339),
		"to":   d.recorded[0].started.Add(24 * time.Hour).Format(time.RFC3339),
	}, &draw)
	if err != nil {
		return err
	}
	d.say("%d of %d calls drawn, one of each agent; the seed was committed before: %s…", draw.Picked, draw.Eligible, draw.Commitment[:16])
	manifest, err := d.keys["auditor"].get(ctx, "/v1/draws/"+draw.ID+"/manifest")
	if err := errors.Join(err, manifest.expect(200)); err != nil {
		return err
	}
	result, err := d.check(ctx, "manifest.json", manifest.body)
	if err != nil {
		return err
	}
	d.say("an auditor, offline: %s", strings.TrimSpace(result))
	return nil
}

// check keeps a document and the public key apart from the service, and
// verifies the one with the other.
func (d *demo) check(ctx context.Context, name string, document []byte) (string, error) {
	key, err := client{base: "http://" + d.Addr}.get(ctx, "/v1/ledger/key")
	if err := errors.Join(err, key.expect(200)); err != nil {
		return "", err
	}
	keyFile, file := filepath.Join(d.scratch, "ledger.pub"), filepath.Join(d.scratch, name)
	if err := errors.Join(os.WriteFile(keyFile, key.body, 0o600), os.WriteFile(file, document, 0o600)); err != nil {
		return "", err
	}
	return d.earmark(ctx, "verify", "--key", keyFile, file)
}

func (d *demo) evaluate(ctx context.Context) error {
	reviewer := d.keys["reviewer"]
	var page struct {
		Items []struct {
			ID            string  `json:"id"`
			InteractionID string  `json:"interaction_id"`
			FormID        string  `json:"form_id"`
			ReviewerID    *string `json:"reviewer_id"`
		} `json:"items"`
	}
	if err := reviewer.ask(ctx, "/v1/assignments?state=assigned", nil, &page); err != nil {
		return err
	}
	if len(page.Items) == 0 {
		return errors.New("the reviewer has no assignment")
	}
	assignment := page.Items[0]
	heard, err := reviewer.get(ctx, "/v1/interactions/"+assignment.InteractionID+"/recordings/audio/audio?purpose=quality_assurance&listening=true")
	if err := errors.Join(err, heard.expect(200)); err != nil {
		return err
	}
	d.say("the reviewer hears the call (%s)", heard.header.Get("Content-Type"))
	var form quality.Form
	if err := reviewer.ask(ctx, "/v1/forms/"+assignment.FormID, nil, &form); err != nil {
		return err
	}
	var evaluation struct {
		ID    string   `json:"id"`
		Score *float64 `json:"score"`
	}
	err = reviewer.ask(ctx, "/v1/evaluations", map[string]any{
		"assignment_id": assignment.ID, "answers": answers(form.Definition), "comment": "Lời chào rõ ràng, giải thích dễ hiểu.",
	}, &evaluation)
	if err != nil {
		return err
	}
	if evaluation.Score == nil {
		return errors.New("the evaluation has no score")
	}
	d.say("scored %.2f", *evaluation.Score)
	release := "/v1/evaluations/" + evaluation.ID + "/release"
	refused, err := reviewer.post(ctx, release, struct{}{})
	if err := errors.Join(err, refused.refused(403, "forbidden")); err != nil {
		return err
	}
	released, err := d.keys["supervisor"].post(ctx, release, struct{}{})
	if err := errors.Join(err, released.expect(200)); err != nil {
		return err
	}
	d.say("released by the supervisor: the agent may see it, the draw's hold ends")
	return nil
}

// answers fill a form in: the second option where there are several, so that
// the score is neither full nor nothing.
func answers(form quality.Definition) []quality.Answer {
	var all []quality.Answer
	for _, section := range form.Sections {
		for i, question := range section.Questions {
			a := quality.Answer{Question: question.ID}
			switch question.Kind {
			case quality.SingleSelect:
				a.Option = question.Options[min(i%2, len(question.Options)-1)].ID
				if question.Options[i%2].Fail != "" {
					a.Option = question.Options[0].ID
				}
			case quality.MultiSelect:
				a.Options = []string{question.Options[0].ID}
			case quality.Numeric:
				a.Number = question.Max
			case quality.Text:
				a.Text = "Tốt"
			case quality.Date:
				a.Date = time.Now().Format(time.DateOnly)
			}
			all = append(all, a)
		}
	}
	return all
}

func (d *demo) hold(ctx context.Context) error {
	d.held = d.recorded[2].id
	var hold struct {
		ID           string `json:"id"`
		Interactions int    `json:"interactions"`
	}
	err := d.keys["records"].ask(ctx, "/v1/legal-holds", map[string]any{
		"matter": "2026-017", "reason": "complaint before the court", "interactions": []string{d.held},
	}, &hold)
	if err != nil {
		return err
	}
	d.say("%d interaction held for the matter 2026-017", hold.Interactions)
	return nil
}

func (d *demo) purge(ctx context.Context) error {
	asks, approves := d.keys["records"], d.keys["records2"]
	var purge struct {
		ID       string         `json:"id"`
		State    string         `json:"state"`
		Items    int            `json:"items"`
		Exempt   int            `json:"exempt"`
		Bytes    int64          `json:"bytes"`
		ExemptBy map[string]int `json:"exempt_by"`
		Progress map[string]int `json:"progress"`
	}
	request := map[string]any{"reason": "end of the trial", "filter": map[string]any{"channel": "voice"}}
	young, err := asks.post(ctx, "/v1/purges", request)
	if err := errors.Join(err, young.refused(409, "guard_rail")); err != nil {
		return err
	}
	d.say("409 guard_rail: these calls came in today; it must be said twice")
	request["override"] = true
	if err := asks.ask(ctx, "/v1/purges", request, &purge); err != nil {
		return err
	}
	d.say("preview: %d would go (%d bytes), %d are exempt %v", purge.Items, purge.Bytes, purge.Exempt, purge.ExemptBy)
	approve := "/v1/purges/" + purge.ID + "/approve"
	alone, err := asks.post(ctx, approve, map[string]bool{"override": true})
	if err := errors.Join(err, alone.refused(403, "second_person_required")); err != nil {
		return err
	}
	d.say("403 second_person_required: whoever asked does not approve")
	second, err := approves.post(ctx, approve, map[string]bool{"override": true})
	if err := errors.Join(err, second.expect(200)); err != nil {
		return err
	}
	err = until(ctx, "the purge", func() (bool, error) {
		err := asks.ask(ctx, "/v1/purges/"+purge.ID, nil, &purge)
		return err == nil && purge.State == "done", err
	})
	if err != nil {
		return err
	}
	d.say("approved by another and done: %d gone", purge.Progress["gone"])
	return d.afterPurge(ctx, purge.ID)
}

func (d *demo) afterPurge(ctx context.Context, purge string) error {
	certificate, err := d.keys["records"].get(ctx, "/v1/purges/"+purge+"/certificate")
	if err := errors.Join(err, certificate.expect(200)); err != nil {
		return err
	}
	d.certificate = string(certificate.body)
	gone := ""
	for _, r := range d.recorded {
		if r.id != d.held && strings.Contains(d.certificate, r.id) && !strings.Contains(d.certificate[strings.Index(d.certificate, `"exempt"`):], r.id) {
			gone = r.id
		}
	}
	if gone == "" {
		gone = d.recorded[0].id
	}
	silence, err := d.keys["reviewer"].get(ctx, "/v1/interactions/"+gone+"/recordings/audio/audio?purpose=quality_assurance")
	if err := errors.Join(err, silence.refused(410, "erased")); err != nil {
		return err
	}
	d.say("410 erased: nobody hears it any more")
	kept, err := d.keys["records"].get(ctx, "/v1/interactions/"+d.held+"/recordings/audio/audio?purpose=legal")
	if err := errors.Join(err, kept.expect(200)); err != nil {
		return err
	}
	d.say("200 the held call is still there, for a legal purpose")
	return nil
}

func (d *demo) verify(ctx context.Context) error {
	result, err := d.check(ctx, "certificate.json", []byte(d.certificate))
	if err != nil {
		return err
	}
	for line := range strings.Lines(result) {
		fmt.Fprintf(d.Out, "      %s", line)
	}
	fmt.Fprintln(d.Out)
	tampered := []byte(d.certificate)
	at := bytes.Index(tampered, []byte(`"bytes"`)) + len(`"bytes": `)
	tampered[at] = '1' + (tampered[at]-'0')%9
	if output, err := d.check(ctx, "tampered.json", tampered); err == nil {
		return fmt.Errorf("a certificate with one byte changed was accepted: %s", output)
	}
	d.say("with one byte changed it is refused")
	return nil
}

func (d *demo) erase(ctx context.Context) error {
	privacy := d.keys["privacy"]
	var request struct {
		ID    string `json:"id"`
		State string `json:"state"`
		DueAt string `json:"due_at"`
	}
	err := privacy.ask(ctx, "/v1/erasure-requests", map[string]any{"customer": "0901234567", "reason": "asked by telephone"}, &request)
	if err != nil {
		return err
	}
	d.say("received, to be done by %s", request.DueAt)
	err = until(ctx, "the erasure", func() (bool, error) {
		err := privacy.ask(ctx, "/v1/erasure-requests/"+request.ID, nil, &request)
		return err == nil && (request.State == "done" || request.State == "waiting_for_hold"), err
	})
	if err != nil {
		return err
	}
	if request.State != "done" {
		return fmt.Errorf("the erasure is %s", request.State)
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := d.keys["supervisor"].ask(ctx, "/v1/interactions?customer=0901234567", nil, &page); err != nil {
		return err
	}
	if len(page.Items) > 0 {
		return fmt.Errorf("%d interactions of the customer are still found", len(page.Items))
	}
	d.say("done: nothing is found under the number any more")
	again, err := d.keys["uploader"].upload(ctx, d.recorded[0].metadata("demo-pbx"), d.recorded[0].fileName, d.recorded[0].mediaType, d.recorded[0].audio)
	if err := errors.Join(err, again.refused(410, "erased")); err != nil {
		return err
	}
	d.say("410 erased: sent again by the softphone, it does not come back")
	return nil
}

func (d *demo) verifyAll(ctx context.Context) error {
	output, err := d.earmark(ctx, "verify", "--all")
	if err != nil {
		return err
	}
	for line := range strings.Lines(output) {
		d.say("%s", strings.TrimSpace(line))
	}
	return nil
}
