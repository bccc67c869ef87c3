package archive

// What becomes of a column when an interaction, or its customer, is erased.
const (
	byArchive = "scrubbed by Scrub"
	byConsent = "scrubbed by consent.ScrubCustomer"
	byQuality = "scrubbed by what quality registers with OnScrub"

	tombstone = "free: the id of a tombstone"
	code      = "free: codes, counts, keys and ids of the service's own"
	hashed    = "free: a hash under the installation's secret"
	inLedger  = "free: ids, counts, codes and keyed hashes are all that the ledger takes"
	proof     = "free: a signed document of ids and counts"
	company   = "free: the company's own name of a system"
	staff     = "free: who of the staff did it, or what they wrote of their own work; customers are named by id there"
)

// Columns declares for every column that could tell something of a person who
// takes that out once an interaction is erased, or why it may stay. A feature
// that adds such a column adds it here: a test over the catalogue fails for
// one that is missing.
var Columns = map[string]string{
	"instance_secrets.name":    code,
	"instance_secrets.kek_id":  code,
	"instance_secrets.wrapped": code,

	"outbox.kind":       code,
	"outbox.args":       code,
	"outbox.unique_key": code,
	"outbox.last_error": code,

	"schedules.kind": code,

	"ledger_pending.entry": inLedger,

	"ledger_entries.entry":   inLedger,
	"ledger_entries.action":  inLedger,
	"ledger_entries.actor":   inLedger,
	"ledger_entries.subject": inLedger,

	"ledger_hashes.hash": inLedger,

	"ledger_checkpoints.note": inLedger,

	"users.login":         staff,
	"users.name":          staff,
	"users.role":          staff,
	"users.agent_id":      staff,
	"users.password_hash": staff,

	"sessions.token_hash": staff,

	"api_keys.name":        staff,
	"api_keys.role":        staff,
	"api_keys.source":      staff,
	"api_keys.basis":       staff,
	"api_keys.agent_id":    staff,
	"api_keys.secret_hash": staff,
	"api_keys.created_by":  staff,

	"customers.name": byConsent,

	"customer_identifiers.kind":        byConsent,
	"customer_identifiers.value":       byConsent,
	"customer_identifiers.customer_id": byConsent,

	"consents.customer_id": tombstone,
	"consents.basis":       code,
	"consents.status":      code,
	"consents.purposes":    code,
	"consents.method":      byConsent,
	"consents.wording":     byConsent,
	"consents.proof":       byConsent,
	"consents.reason":      byConsent,
	"consents.recorded_by": staff,

	"source_bases.source":      company,
	"source_bases.basis":       code,
	"source_bases.purposes":    code,
	"source_bases.method":      staff,
	"source_bases.reason":      staff,
	"source_bases.recorded_by": staff,

	"interactions.identity":          hashed,
	"interactions.fingerprint":       hashed,
	"interactions.state":             code,
	"interactions.source":            company,
	"interactions.source_id":         byArchive,
	"interactions.channel":           code,
	"interactions.direction":         byArchive,
	"interactions.agent_id":          byArchive,
	"interactions.agent_name":        byArchive,
	"interactions.queue":             byArchive,
	"interactions.skill":             byArchive,
	"interactions.campaign":          byArchive,
	"interactions.customer_id":       byArchive,
	"interactions.ani":               byArchive,
	"interactions.dnis":              byArchive,
	"interactions.participants":      byArchive,
	"interactions.disposition":       byArchive,
	"interactions.wrap_up_code":      byArchive,
	"interactions.disconnect_reason": byArchive,
	"interactions.tags":              byArchive,
	"interactions.attributes":        byArchive,
	"interactions.consent":           byArchive,
	"interactions.purposes":          byArchive,
	"interactions.messages":          byArchive,
	"interactions.transcript":        byArchive,
	"interactions.received_from":     staff,
	"interactions.kek_id":            byArchive,
	"interactions.wrapped_key":       byArchive,

	"interaction_words.interaction_id": byArchive,
	"interaction_words.words":          byArchive,
	"interaction_words.labels":         byArchive,

	"recordings.interaction_id": tombstone,
	"recordings.name":           byArchive,
	"recordings.file_name":      byArchive,
	"recordings.media_type":     byArchive,
	"recordings.sha256":         byArchive,
	"recordings.state":          code,
	"recordings.flags":          byArchive,
	"recordings.codec":          byArchive,

	"objects.key":          byArchive,
	"objects.recording_id": byArchive,
	"objects.kind":         byArchive,
	"objects.media_type":   byArchive,
	"objects.sha256":       byArchive,
	"objects.header":       byArchive,

	"holds.interaction_id": tombstone,
	"holds.kind":           code,

	"listenings.recording_id": byArchive,
	"listenings.listener":     byArchive,
	"listenings.purpose":      byArchive,

	"legal_holds.matter":               staff,
	"legal_holds.reason":               staff,
	"legal_holds.state":                code,
	"legal_holds.filter":               staff,
	"legal_holds.gone":                 code,
	"legal_holds.placed_by":            staff,
	"legal_holds.release_requested_by": staff,
	"legal_holds.released_by":          staff,

	"erasure_requests.customer_id":  tombstone,
	"erasure_requests.state":        code,
	"erasure_requests.reason":       staff,
	"erasure_requests.requested_by": staff,

	"retention_policies.name":                    staff,
	"retention_policies.match":                   staff,
	"retention_policies.state":                   code,
	"retention_policies.proposed_by":             staff,
	"retention_policies.approved_by":             staff,
	"retention_policies.retirement_requested_by": staff,
	"retention_policies.retired_by":              staff,

	"purges.kind":         code,
	"purges.state":        code,
	"purges.reason":       staff,
	"purges.filter":       staff,
	"purges.requested_by": staff,
	"purges.approved_by":  staff,
	"purges.cancelled_by": staff,
	"purges.certificate":  proof,

	"purge_items.interaction_id": tombstone,
	"purge_items.state":          code,
	"purge_items.exempt_reason":  code,
	"purge_items.recordings":     code,
	"purge_items.remaining":      code,
	"purge_items.last_error":     code,

	"forms.name":       staff,
	"forms.created_by": staff,

	"form_versions.definition":   staff,
	"form_versions.published_by": staff,

	"sampling_plans.name":       staff,
	"sampling_plans.stream":     code,
	"sampling_plans.per_agent":  code,
	"sampling_plans.filter":     staff,
	"sampling_plans.reviewers":  staff,
	"sampling_plans.created_by": staff,

	"draws.state":           code,
	"draws.seed_commitment": code,
	"draws.seed_kek_id":     code,
	"draws.seed_wrapped":    code,
	"draws.seed":            code,
	"draws.manifest":        proof,
	"draws.manifest_sha256": code,
	"draws.agents":          code,
	"draws.requested_by":    staff,

	"assignments.interaction_id":    tombstone,
	"assignments.stream":            code,
	"assignments.agent_id":          staff,
	"assignments.reviewer_agent_id": staff,
	"assignments.state":             code,
	"assignments.reason":            staff,

	"evaluations.answers":  byQuality,
	"evaluations.comment":  byQuality,
	"evaluations.sections": byQuality,
}
