package consent

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"earmark/internal/access"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// hour is a time so many hours after noon.
func hour(h int) *time.Time {
	at := noon.Add(time.Duration(h) * time.Hour)
	return &at
}

const (
	qa       = access.QualityAssurance
	training = access.Training
	legal    = access.Legal
)

func some(purposes ...access.Purpose) []access.Purpose { return purposes }

func allBut(without ...access.Purpose) []access.Purpose {
	return slices.DeleteFunc(slices.Clone(access.Purposes), func(p access.Purpose) bool {
		return slices.Contains(without, p)
	})
}

// said is a statement on record, made so many hours after noon.
func said(basis, status string, at int, purposes ...access.Purpose) Recorded {
	s := Statement{Basis: basis, Status: status, At: hour(at), Purposes: purposes}
	s.Purposes = s.covered()
	return Recorded{Statement: s}
}

// until makes a grant end.
func until(r Recorded, end int) Recorded {
	r.ExpiresAt = hour(end)
	return r
}

// record is newest first, as it is read; of two of the same time the later one
// here is the later one there.
func record(said ...Recorded) []Recorded {
	slices.SortStableFunc(said, func(a, b Recorded) int { return a.At.Compare(*b.At) })
	slices.Reverse(said)
	return said
}

func TestDecideByTheInteractionsOwnWord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		said     Statement
		outcome  string
		purposes []access.Purpose
	}{
		"granted":                 {Statement{Basis: access.Consent, Status: Granted}, Covered, allBut(access.Research)},
		"granted for one":         {Statement{Basis: access.Consent, Status: Granted, Purposes: some(training)}, Covered, some(training)},
		"granted for research":    {Statement{Basis: access.Consent, Status: Granted, Purposes: some(access.Research, qa, qa)}, Covered, some(qa, access.Research)},
		"refused":                 {Statement{Basis: access.Consent, Status: Refused}, Declined, nil},
		"refused for one":         {Statement{Basis: access.Consent, Status: Refused, Purposes: some(training)}, Declined, nil},
		"withdrawn":               {Statement{Basis: access.Consent, Status: Withdrawn}, Declined, nil},
		"contract":                {Statement{Basis: access.Contract, Status: Granted}, Lawful, allBut(access.Research)},
		"legal obligation":        {Statement{Basis: access.LegalObligation, Status: Granted}, Lawful, allBut(qa, training, access.PerformanceEvaluation, access.Research)},
		"legitimate interests":    {Statement{Basis: access.LegitimateInterests, Status: Granted, Purposes: some(legal)}, Lawful, some(legal)},
		"legal interests refused": {Statement{Basis: access.LegitimateInterests, Status: Refused}, Declined, nil},
	} {
		d := byWord(c.said)
		if d.Outcome != c.outcome || (d.Basis != nil) != (c.purposes != nil) {
			t.Errorf("%s: %+v", name, d)
		}
		if diff := cmp.Diff(c.purposes, d.Purposes); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if d.Basis != nil && !cmp.Equal(d.Basis.Purposes, d.Purposes) {
			t.Errorf("%s: the basis covers %v", name, d.Basis.Purposes)
		}
	}
}

func TestDecideByWhatStands(t *testing.T) {
	t.Parallel()
	announced := &access.Basis{Basis: access.Consent, Method: "announcement"}
	forTraining := &access.Basis{Basis: access.Consent, Purposes: some(training)}
	contract := &access.Basis{Basis: access.Contract, Reason: "orders", Purposes: some(qa, legal)}
	interests := &access.Basis{Basis: access.LegitimateInterests, Reason: "fraud", Purposes: some(legal)}
	refusesAllAt := func(h int) Recorded { return said(access.Consent, Refused, h) }

	for name, c := range map[string]struct {
		key, source *access.Basis
		record      []Recorded
		outcome     string
		basis       string
		purposes    []access.Purpose
	}{
		"nothing":                      {nil, nil, nil, Unknown, "", nil},
		"key":                          {announced, nil, nil, Covered, access.Consent, allBut(access.Research)},
		"key before source":            {contract, announced, nil, Lawful, access.Contract, some(qa, legal)},
		"source":                       {nil, interests, nil, Lawful, access.LegitimateInterests, some(legal)},
		"source before record":         {nil, contract, record(said(access.Consent, Granted, -5)), Lawful, access.Contract, some(qa, legal)},
		"record":                       {nil, nil, record(said(access.Consent, Granted, -5, qa)), Covered, access.Consent, some(qa)},
		"record, two grants":           {nil, nil, record(said(access.Consent, Granted, -5, qa), said(access.Consent, Granted, -3, legal)), Covered, access.Consent, some(qa, legal)},
		"record, then one withdrawn":   {nil, nil, record(said(access.Consent, Granted, -5, qa, legal), said(access.Consent, Withdrawn, -3, qa)), Covered, access.Consent, some(legal)},
		"record, then all withdrawn":   {nil, nil, record(said(access.Consent, Granted, -5, qa), said(access.Consent, Withdrawn, -3)), Declined, "", nil},
		"record, granted again":        {nil, nil, record(said(access.Consent, Withdrawn, -5), said(access.Consent, Granted, -3, qa)), Covered, access.Consent, some(qa)},
		"withdrawn what was granted":   {nil, nil, record(said(access.Consent, Granted, -5, qa), said(access.Consent, Withdrawn, -3, qa)), Unknown, "", nil},
		"same time, later id wins":     {nil, nil, record(said(access.Consent, Granted, -5), said(access.Consent, Withdrawn, -5)), Declined, "", nil},
		"same time, the other way":     {nil, nil, record(said(access.Consent, Withdrawn, -5), said(access.Consent, Granted, -5)), Covered, access.Consent, allBut(access.Research)},
		"record expired":               {nil, nil, record(until(said(access.Consent, Granted, -5), 0)), Unknown, "", nil},
		"record not yet expired":       {nil, nil, record(until(said(access.Consent, Granted, -5, qa), 1)), Covered, access.Consent, some(qa)},
		"refused, then a grant ended":  {nil, nil, record(refusesAllAt(-9), until(said(access.Consent, Granted, -5), -1)), Declined, "", nil},
		"record of a contract":         {nil, nil, record(said(access.Contract, Granted, -5, qa)), Lawful, access.Contract, some(qa)},
		"record: consent first":        {nil, nil, record(said(access.Contract, Granted, -1, legal), said(access.Consent, Granted, -5, qa)), Covered, access.Consent, some(qa)},
		"contract outlives withdrawal": {nil, nil, record(said(access.Contract, Granted, -5, qa), said(access.Consent, Withdrawn, -3)), Lawful, access.Contract, some(qa)},
		"a contract that ended":        {nil, nil, record(said(access.Contract, Granted, -5, qa), said(access.Contract, Withdrawn, -3)), Unknown, "", nil},

		"refusal beats the key's consent":      {announced, nil, record(refusesAllAt(-1)), Declined, "", nil},
		"refusal beats the source's consent":   {nil, announced, record(refusesAllAt(-1)), Declined, "", nil},
		"refusal leaves the key's contract":    {contract, nil, record(refusesAllAt(-1)), Lawful, access.Contract, some(qa, legal)},
		"refused key, lawful source":           {announced, contract, record(refusesAllAt(-1)), Lawful, access.Contract, some(qa, legal)},
		"withdrawal narrows the key's consent": {announced, nil, record(said(access.Consent, Withdrawn, -1, training)), Covered, access.Consent, allBut(access.Research, training)},
		"nothing left of the key's consent":    {forTraining, nil, record(said(access.Consent, Withdrawn, -1, training)), Unknown, "", nil},
		"nothing left, then the source's":      {forTraining, announced, record(said(access.Consent, Withdrawn, -1, training)), Covered, access.Consent, allBut(access.Research, training)},
		"granted after refusing":               {announced, nil, record(refusesAllAt(-3), said(access.Consent, Granted, -1, qa)), Covered, access.Consent, some(qa)},
		"objection narrows the same basis":     {contract, nil, record(said(access.Contract, Withdrawn, -1, qa)), Lawful, access.Contract, some(legal)},
	} {
		d := decide(c.record, noon, c.key, c.source)
		basis := ""
		if d.Basis != nil {
			basis = d.Basis.Basis
			if d.Basis.Status != Granted || !cmp.Equal(d.Basis.Purposes, d.Purposes) {
				t.Errorf("%s: basis %+v", name, d.Basis)
			}
		}
		if d.Outcome != c.outcome || basis != c.basis {
			t.Errorf("%s: %s by %q, not %s by %q", name, d.Outcome, basis, c.outcome, c.basis)
		}
		if diff := cmp.Diff(c.purposes, d.Purposes); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestABasisOnRecordIsSummedUp(t *testing.T) {
	t.Parallel()
	older := until(said(access.Consent, Granted, -5, qa), 9)
	older.Method, older.Proof, older.Wording = "verbal", []byte(`{"at":"0:12"}`), "May we record?"
	newer := until(said(access.Consent, Granted, -3, legal), 4)
	newer.Method = "web_form"
	d := decide(record(older, newer), noon)
	want := &Statement{
		Basis: access.Consent, Status: Granted, Method: "web_form", At: hour(-5), ExpiresAt: hour(4), Purposes: some(qa, legal),
	}
	if diff := cmp.Diff(want, d.Basis); diff != "" {
		t.Error(diff)
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	own := func(at int) Statement {
		return Statement{Basis: access.Consent, Status: Granted, At: hour(at), Purposes: some(qa)}
	}
	ending := func(s Statement, end int) Statement {
		s.ExpiresAt = hour(end)
		return s
	}
	standing := Statement{Basis: access.Consent, Status: Granted, Purposes: some(qa)}
	contract := Statement{Basis: access.Contract, Status: Granted, At: hour(-9), Purposes: some(qa)}
	for name, c := range map[string]struct {
		basis  Statement
		record []Recorded
		want   bool
	}{
		"own word":                         {own(-9), nil, true},
		"withdrawn since":                  {own(-9), record(said(access.Consent, Withdrawn, -1)), false},
		"withdrawn since, for this":        {own(-9), record(said(access.Consent, Withdrawn, -1, qa)), false},
		"withdrawn since, for another":     {own(-9), record(said(access.Consent, Withdrawn, -1, training)), true},
		"refused since":                    {own(-9), record(said(access.Consent, Refused, -1)), false},
		"withdrawn at that moment":         {own(-9), record(said(access.Consent, Withdrawn, -9)), false},
		"withdrawn before it":              {own(-3), record(said(access.Consent, Withdrawn, -9)), true},
		"withdrawn and granted again":      {own(-9), record(said(access.Consent, Withdrawn, -5), said(access.Consent, Granted, -1)), true},
		"granted again for another":        {own(-9), record(said(access.Consent, Withdrawn, -5), said(access.Consent, Granted, -1, training)), false},
		"granted again, and that ended":    {own(-9), record(said(access.Consent, Withdrawn, -5), until(said(access.Consent, Granted, -3), -1)), false},
		"expired":                          {ending(own(-9), 0), nil, false},
		"not yet expired":                  {ending(own(-9), 1), nil, true},
		"expired and renewed":              {ending(own(-9), 0), record(said(access.Consent, Granted, -1)), true},
		"expired and renewed for another":  {ending(own(-9), 0), record(said(access.Consent, Granted, -1, training)), false},
		"expired, withdrawn before it":     {ending(own(-3), 0), record(said(access.Consent, Withdrawn, -9)), false},
		"an unrelated grant that ended":    {own(-9), record(until(said(access.Consent, Granted, -3), -1)), true},
		"standing":                         {standing, nil, true},
		"standing yields to any no":        {standing, record(said(access.Consent, Withdrawn, -900)), false},
		"standing, no to another":          {standing, record(said(access.Consent, Refused, -9, training)), true},
		"contract, consent withdrawn":      {contract, record(said(access.Consent, Withdrawn, -1)), true},
		"contract that ended":              {contract, record(said(access.Contract, Withdrawn, -1)), false},
		"a basis that is none":             {Statement{Basis: access.Consent, Status: Refused, At: hour(-9)}, nil, false},
		"another basis granted, then lost": {own(-9), record(said(access.Contract, Granted, -5), said(access.Consent, Withdrawn, -1)), false},
	} {
		if got := covers(c.record, noon, c.basis, qa); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestDefaultPurposes(t *testing.T) {
	t.Parallel()
	for _, basis := range access.Bases {
		want := allBut(access.Research)
		if basis == access.LegalObligation {
			want = some(access.CustomerRequest, access.Complaint, access.DisputeInvestigation, access.Legal, access.Compliance)
		}
		if diff := cmp.Diff(want, DefaultPurposes(basis)); diff != "" {
			t.Errorf("%s: %s", basis, diff)
		}
	}
}
