package access

import "slices"

// Role is what somebody is in the house. One person or key has one role.
type Role string

// The roles.
const (
	Uploader       Role = "uploader"
	Agent          Role = "agent"
	Reviewer       Role = "reviewer"
	Supervisor     Role = "supervisor"
	RecordsOfficer Role = "records_officer"
	PrivacyOfficer Role = "privacy_officer"
	Auditor        Role = "auditor"
	Admin          Role = "admin"

	system Role = "system"
)

// Purpose is why somebody listens or reads, as customers were told.
type Purpose string

// The purposes.
const (
	QualityAssurance      Purpose = "quality_assurance"
	Training              Purpose = "training"
	PerformanceEvaluation Purpose = "performance_evaluation"
	CustomerRequest       Purpose = "customer_request"
	Complaint             Purpose = "complaint"
	DisputeInvestigation  Purpose = "dispute_investigation"
	Legal                 Purpose = "legal"
	Compliance            Purpose = "compliance"
	Research              Purpose = "research"
)

// Purposes are all purposes, in the order in which pages show them.
var Purposes = []Purpose{
	QualityAssurance, Training, PerformanceEvaluation, CustomerRequest, Complaint,
	DisputeInvestigation, Legal, Compliance, Research,
}

// Action is one thing that a role may do.
type Action string

// The actions.
const (
	// SubmitInteractions: send interactions and recordings.
	SubmitInteractions Action = "interactions.submit"
	// ReadInteractions: find interactions and see their metadata. Uploaders
	// see their own source's, agents their own.
	ReadInteractions Action = "interactions.read"
	// AmendInteractions: change tags, disposition, codes and attributes.
	AmendInteractions Action = "interactions.amend"
	// Hear: play and download recordings, read messages and transcripts, for a purpose.
	Hear Action = "interactions.hear"
	// HearOwn: the same, for the calls one took oneself.
	HearOwn Action = "interactions.hear_own"
	// ReadCustomers: see who the customers are and what they agreed to.
	ReadCustomers Action = "customers.read"
	// RecordConsent: record what customers agreed to or withdrew, and the
	// basis of a source; see and release what is quarantined.
	RecordConsent Action = "consents.record"
	// RequestErasure: have everything of one customer erased.
	RequestErasure Action = "erasures.request"
	// ReadLifecycle: see policies, holds, purges and certificates.
	ReadLifecycle Action = "lifecycle.read"
	// ProposePolicies: write retention policies.
	ProposePolicies Action = "policies.propose"
	// ApprovePolicies: approve those that another person proposed.
	ApprovePolicies Action = "policies.approve"
	// PlaceHolds: place legal holds and ask for their release.
	PlaceHolds Action = "holds.place"
	// ReleaseHolds: approve a release that another person asked for.
	ReleaseHolds Action = "holds.release"
	// RequestPurges: preview a purge and ask for it.
	RequestPurges Action = "purges.request"
	// ApprovePurges: approve a purge that another person asked for.
	ApprovePurges Action = "purges.approve"
	// ReadQuality: see forms, plans, draws, assignments and evaluations.
	ReadQuality Action = "quality.read"
	// ManageQuality: write forms and plans, run draws, release evaluations.
	ManageQuality Action = "quality.manage"
	// Evaluate: score what one is assigned.
	Evaluate Action = "evaluations.write"
	// ReadOwnEvaluations: see the released evaluations of one's own calls.
	ReadOwnEvaluations Action = "evaluations.read_own"
	// ReadLedger: see the ledger, its checkpoints and proofs.
	ReadLedger Action = "ledger.read"
	// ManageAccess: users, API keys, sources.
	ManageAccess Action = "access.manage"
)

// Actions are all actions, in the order of the table that people see.
var Actions = []Action{
	SubmitInteractions, ReadInteractions, AmendInteractions, Hear, HearOwn,
	ReadCustomers, RecordConsent, RequestErasure,
	ReadLifecycle, ProposePolicies, ApprovePolicies, PlaceHolds, ReleaseHolds, RequestPurges, ApprovePurges,
	ReadQuality, ManageQuality, Evaluate, ReadOwnEvaluations,
	ReadLedger, ManageAccess,
}

type grant struct {
	actions  []Action
	purposes []Purpose
}

// roles is the whole of who may do what, and why they may listen.
var roles = map[Role]grant{
	Uploader: {
		actions: []Action{SubmitInteractions, ReadInteractions},
	},
	Agent: {
		actions:  []Action{ReadInteractions, HearOwn, ReadOwnEvaluations},
		purposes: []Purpose{Training},
	},
	Reviewer: {
		actions:  []Action{ReadInteractions, Hear, ReadQuality, Evaluate},
		purposes: []Purpose{QualityAssurance, Training, PerformanceEvaluation},
	},
	Supervisor: {
		actions: []Action{ReadInteractions, AmendInteractions, Hear, ReadCustomers,
			ReadQuality, ManageQuality, Evaluate},
		purposes: []Purpose{QualityAssurance, Training, PerformanceEvaluation, CustomerRequest, Complaint, Research},
	},
	RecordsOfficer: {
		actions: []Action{ReadInteractions, AmendInteractions, Hear, ReadCustomers,
			ReadLifecycle, ProposePolicies, ApprovePolicies, PlaceHolds, ReleaseHolds, RequestPurges, ApprovePurges},
		purposes: []Purpose{DisputeInvestigation, Legal, Compliance},
	},
	PrivacyOfficer: {
		actions: []Action{ReadInteractions, AmendInteractions, Hear, ReadCustomers, RecordConsent, RequestErasure,
			ReadLifecycle, ApprovePolicies, PlaceHolds, ReleaseHolds, ApprovePurges, ReadLedger},
		purposes: []Purpose{CustomerRequest, Complaint, DisputeInvestigation, Legal, Compliance},
	},
	Auditor: {
		actions: []Action{ReadInteractions, Hear, ReadCustomers, ReadLifecycle, ReadQuality, ReadLedger},
		// An auditor hears to see that the rules were kept, and for nothing else.
		purposes: []Purpose{Compliance},
	},
	Admin: {
		// Runs the house, approves as the second person where officers are few,
		// and hears nobody.
		actions: []Action{ReadInteractions, ReadLifecycle, ApprovePolicies, ReleaseHolds, ApprovePurges,
			ReadQuality, ReadLedger, ManageAccess},
	},
}

// Roles are all roles that people and keys can have, in the order of the
// table that people see.
var Roles = []Role{Uploader, Agent, Reviewer, Supervisor, RecordsOfficer, PrivacyOfficer, Auditor, Admin}

// Valid says whether r is a role that people and keys can have.
func (r Role) Valid() bool { return slices.Contains(Roles, r) }

// Actions are what the role may do.
func (r Role) Actions() []Action { return slices.Clone(roles[r].actions) }

// Purposes are why the role may listen and read.
func (r Role) Purposes() []Purpose { return slices.Clone(roles[r].purposes) }

// Valid says whether p is one of Purposes.
func (p Purpose) Valid() bool { return slices.Contains(Purposes, p) }

// RolesFor are the roles that may listen and read for p, in the order of Roles.
func RolesFor(p Purpose) []Role {
	var able []Role
	for _, r := range Roles {
		if slices.Contains(roles[r].purposes, p) {
			able = append(able, r)
		}
	}
	return able
}
