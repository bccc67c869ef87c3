package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// The rows of searches and draws come by SQL of their own: what is measured is
// how they are found, not how they came. They are the same in every run.
const (
	seedBatch    = 100_000
	seedAgents   = 500
	seedQueues   = 20
	seedSources  = 5
	seedTags     = 50
	seedOutcomes = 12
	seedDays     = 730
)

var seedBegin = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// customersOf says how many customers so many rows have: each called 20 times.
func customersOf(rows int) int { return rows/20 + 1 }

func numberBelow(n int) int { return rand.IntN(n) } //nolint:gosec // any value will do

func number(below int) string { return strconv.Itoa(numberBelow(below)) }

// seedFunctions give each row values of its own: bench_pick is a number below
// k, by a hash of the row's number; bench_id an id in the order of the rows.
const seedFunctions = `
	create function bench_pick(n bigint, salt bigint, k bigint) returns bigint language sql immutable parallel safe as
		$$ select (hashint8extended(n, salt) & 9223372036854775807) % k $$;
	create function bench_id(kind int, n bigint) returns uuid language sql immutable parallel safe as
		$$ select (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
	create function bench_phone(n bigint) returns text language sql immutable parallel safe as
		$$ select '+849' || lpad(n::text, 8, '0') $$;
	create function bench_basis() returns jsonb language sql immutable parallel safe as
		$$ select '{"basis": "legitimate_interests", "status": "granted", "reason": "benchmark", "purposes": ["quality_assurance"]}'::jsonb $$;`

const (
	seedCustomers = `
	insert into customers (id, created_at)
	select bench_id(1, n), now() from generate_series(0, {customers} - 1) n;
	insert into customer_identifiers (kind, value, customer_id)
	select 'phone', bench_phone(n), bench_id(1, n) from generate_series(0, {customers} - 1) n`

	seedInteractions = `
	insert into interactions (id, identity, fingerprint, state, source, source_id, channel, direction,
		started_at, ended_at, duration_ms, agent_id, agent_name, queue, customer_id, ani, disposition, tags,
		consent, purposes, transcript, received_at, received_from)
	select bench_id(2, n), sha256(int8send(n)), sha256(int8send(n)), 'active', 'pbx-' || bench_pick(n, 1, {sources}), 'call-' || n,
		(array['voice', 'voice', 'voice', 'chat', 'email'])[1 + bench_pick(n, 2, 5)],
		(array['inbound', 'inbound', 'outbound'])[1 + bench_pick(n, 3, 3)],
		started, started + make_interval(secs => ms / 1000.0), ms,
		'agent-' || agent, 'Agent ' || agent, 'queue-' || bench_pick(n, 5, {queues}),
		bench_id(1, customer), bench_phone(customer), 'outcome-' || bench_pick(n, 7, {outcomes}),
		array['tag-' || bench_pick(n, 8, {tags}), 'tag-' || bench_pick(n, 9, {tags})],
		bench_basis(), array['quality_assurance'], 'kept', started, 'bench'
	from generate_series($1::bigint, $2::bigint) n,
		lateral (select
			timestamptz '{begin}' + n * (interval '{days} days' / {rows}::float) + make_interval(secs => bench_pick(n, 10, 3600)) as started,
			1000 + bench_pick(n, 11, 900000) as ms,
			bench_pick(n, 4, {agents}) as agent,
			bench_pick(n, 6, {customers}) as customer) as v`

	seedWords = `
	insert into interaction_words (interaction_id, words)
	select bench_id(2, n), to_tsvector('earmark',
		(select string_agg('w' || bench_pick(n, 20 + k, 2000), ' ') from generate_series(1, 12) k)
		|| case when n % 1000 = 0 then ' hoàn tiền' else '' end || case when n % 10 = 0 then ' xin chào' else '' end)
	from generate_series($1::bigint, $2::bigint) n`

	seedRecordings = `
	insert into recordings (id, interaction_id, name, media_type, bytes, sha256, state, duration_ms, received_at)
	select bench_id(3, n), bench_id(2, n), 'audio', 'audio/wav', 100000, sha256(int8send(n)), 'ready', 6000, now()
	from generate_series($1::bigint, $2::bigint) n`

	// A few agents take most calls, and each has enough for every round.
	seedEligible = `
	insert into interactions (id, identity, fingerprint, state, source, source_id, channel, direction,
		started_at, agent_id, queue, consent, purposes, received_at, received_from)
	select bench_id(2, n), sha256(int8send(n)), sha256(int8send(n)), 'active', 'pbx', 'call-' || n, 'voice', 'inbound',
		timestamptz '{begin}' + make_interval(secs => bench_pick(n, 1, 30 * 86400)),
		'agent-' || case when n <= {agents} * {quota} then n % {agents}
			else floor({agents} * power(bench_pick(n, 2, 1000000) / 1000000.0, 2))::bigint end,
		'queue-' || bench_pick(n, 3, {queues}), bench_basis(), array['quality_assurance'], now(), 'bench'
	from generate_series($1::bigint, $2::bigint) n`
)

// seedSearch fills the archive with rows over two years. Each has a recording
// and twelve words out of 2,000; one in a thousand says "hoàn tiền", one in ten
// "xin chào".
func (b *bench) seedSearch(ctx context.Context) error {
	values := strings.NewReplacer(
		"{customers}", fmt.Sprint(customersOf(b.Rows)), "{rows}", fmt.Sprint(b.Rows), "{agents}", fmt.Sprint(seedAgents),
		"{sources}", fmt.Sprint(seedSources), "{queues}", fmt.Sprint(seedQueues), "{outcomes}", fmt.Sprint(seedOutcomes),
		"{tags}", fmt.Sprint(seedTags), "{begin}", seedBegin.Format(time.RFC3339), "{days}", fmt.Sprint(seedDays-1))
	if err := b.service.exec(ctx, seedFunctions+values.Replace(seedCustomers)); err != nil {
		return fmt.Errorf("make customers: %w", err)
	}
	return b.seed(ctx, b.Rows, values.Replace(seedInteractions), seedRecordings, seedWords)
}

// seedDraw fills a month with interactions all of which may be drawn.
func (b *bench) seedDraw(ctx context.Context) error {
	values := strings.NewReplacer("{agents}", fmt.Sprint(b.Agents), "{queues}", fmt.Sprint(seedQueues),
		"{begin}", seedBegin.Format(time.RFC3339), "{quota}", fmt.Sprint(perAgent*b.Rounds))
	if err := b.service.exec(ctx, seedFunctions); err != nil {
		return err
	}
	return b.seed(ctx, b.Eligible, values.Replace(seedEligible), seedRecordings)
}

// seed makes n rows by statements that take the numbers of a batch's first and
// last row.
func (b *bench) seed(ctx context.Context, n int, statements ...string) error {
	for from := 1; from <= n; from += seedBatch {
		to := min(from+seedBatch-1, n)
		if err := b.progress.step("rows up to %d of %d", to, n); err != nil {
			return err
		}
		for _, sql := range statements {
			if err := b.service.exec(ctx, sql, from, to); err != nil {
				return fmt.Errorf("make rows: %w", err)
			}
		}
	}
	if err := b.progress.step("vacuum"); err != nil {
		return err
	}
	// As autovacuum would leave the tables in time.
	return b.service.exec(ctx, `vacuum (analyze) interactions, recordings, interaction_words, customers, customer_identifiers`)
}
