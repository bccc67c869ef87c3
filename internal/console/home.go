package console

import (
	"time"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

// homePage is what waits for whoever looks at it. What their role does not
// deal with is nil.
type homePage struct {
	Now time.Time
	// Mine are assignments to evaluate, Scored evaluations to release.
	Mine   []quality.Assignment
	Scored []quality.Evaluation
	// Own are released evaluations of one's own calls.
	Own []quality.Evaluation
	// Purges wait for approval, Releases and Policies for a second person.
	Purges   []lifecycle.Purge
	Releases []lifecycle.Hold
	Policies []lifecycle.Policy
	// Quarantined wait for a basis.
	Quarantined []archive.Interaction
	Latest      []archive.Interaction
	Names       names
}

// glance is how many of each the home page shows.
const glance = 6

func (c *Console) home(v *visit) error {
	p := homePage{Now: v.now()}
	for _, look := range []func(*visit, *homePage) error{
		c.homeReviews, c.homeReleases, c.homeOwn, c.homePurges, c.homeHolds, c.homePolicies, c.homeQuarantine, c.homeLatest,
	} {
		if err := look(v, &p); err != nil {
			return err
		}
	}
	var err error
	if p.Names, err = c.names(v); err != nil {
		return err
	}
	return v.show("home", "home.title", p)
}

func (c *Console) homeReviews(v *visit, p *homePage) error {
	if !v.may(access.Evaluate) {
		return nil
	}
	page, err := c.Quality.Assignments(v.Request.Context(), v.actor, quality.AssignmentQuery{
		State: quality.Assigned, ReviewerID: &v.actor.Person, List: quality.List{Limit: glance},
	})
	p.Mine = append([]quality.Assignment{}, page.Items...)
	return err
}

func (c *Console) homeReleases(v *visit, p *homePage) error {
	if !v.may(access.ManageQuality) {
		return nil
	}
	page, err := c.Quality.Evaluations(v.Request.Context(), v.actor, quality.EvaluationQuery{
		State: quality.Submitted, List: quality.List{Limit: glance},
	})
	p.Scored = append([]quality.Evaluation{}, page.Items...)
	return err
}

func (c *Console) homeOwn(v *visit, p *homePage) error {
	if v.may(access.ReadQuality) || !v.may(access.ReadOwnEvaluations) {
		return nil
	}
	page, err := c.Quality.Evaluations(v.Request.Context(), v.actor, quality.EvaluationQuery{List: quality.List{Limit: glance}})
	p.Own = append([]quality.Evaluation{}, page.Items...)
	return err
}

func (c *Console) homePurges(v *visit, p *homePage) error {
	if !v.may(access.ApprovePurges) {
		return nil
	}
	page, err := c.Lifecycle.Purges(v.Request.Context(), v.actor, lifecycle.List{State: "previewed", Limit: glance})
	p.Purges = append([]lifecycle.Purge{}, page.Items...)
	return err
}

func (c *Console) homeHolds(v *visit, p *homePage) error {
	if !v.may(access.ReleaseHolds) {
		return nil
	}
	page, err := c.Lifecycle.Holds(v.Request.Context(), v.actor, lifecycle.List{State: "release_requested", Limit: glance})
	p.Releases = append([]lifecycle.Hold{}, page.Items...)
	return err
}

func (c *Console) homePolicies(v *visit, p *homePage) error {
	if !v.may(access.ApprovePolicies) {
		return nil
	}
	all, err := c.Lifecycle.Policies(v.Request.Context(), v.actor)
	p.Policies = []lifecycle.Policy{}
	for _, policy := range all {
		if policy.State == "proposed" || policy.State == "active" && policy.RetirementRequestedBy != nil {
			p.Policies = append(p.Policies, policy)
		}
	}
	return err
}

func (c *Console) homeQuarantine(v *visit, p *homePage) error {
	if !v.may(access.RecordConsent) {
		return nil
	}
	page, err := c.Archive.Search(v.Request.Context(), v.actor, archive.Query{State: archive.Quarantined, Limit: glance})
	p.Quarantined = append([]archive.Interaction{}, page.Items...)
	return err
}

func (c *Console) homeLatest(v *visit, p *homePage) error {
	if !v.may(access.ReadInteractions) {
		return nil
	}
	page, err := c.Archive.Search(v.Request.Context(), v.actor, archive.Query{Limit: glance})
	p.Latest = append([]archive.Interaction{}, page.Items...)
	return err
}
