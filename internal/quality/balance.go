package quality

import (
	"slices"

	"github.com/google/uuid"
)

// reviewer is somebody who can be given assignments.
type reviewer struct {
	id uuid.UUID
	// agentID is the id under which the reviewer's own calls are recorded.
	agentID string
}

func (r reviewer) may(agentID string) bool { return r.agentID == "" || r.agentID != agentID }

const nobody = -1

// balance gives each pick, of which it is told the agent, to a reviewer:
// its index, or nobody when all are that agent. Loads differ by at most one
// unless who may not review whom forbids it, and are then as even as they can
// be. The same input gives the same result.
func balance(agents []string, reviewers []reviewer) []int {
	b := &balancing{agents: agents, reviewers: reviewers, of: make([]int, len(agents)), load: make([]int, len(reviewers))}
	for pick := range agents {
		b.of[pick] = nobody
	}
	for _, pick := range b.narrowestFirst() {
		b.give(pick)
	}
	for b.improve() {
	}
	return b.of
}

type balancing struct {
	agents    []string
	reviewers []reviewer
	of        []int
	load      []int
}

// narrowestFirst orders the picks so that those which somebody may not review
// come first, when there is most room.
func (b *balancing) narrowestFirst() []int {
	taken := map[string]bool{}
	for _, r := range b.reviewers {
		taken[r.agentID] = true
	}
	var first, rest []int
	for pick, agent := range b.agents {
		if taken[agent] {
			first = append(first, pick)
		} else {
			rest = append(rest, pick)
		}
	}
	return append(first, rest...)
}

func (b *balancing) give(pick int) {
	least := nobody
	for r := range b.reviewers {
		if b.reviewers[r].may(b.agents[pick]) && (least == nobody || b.load[r] < b.load[least]) {
			least = r
		}
	}
	if least != nobody {
		b.of[pick] = least
		b.load[least]++
	}
}

// improve moves picks along one path of reviewers from one who has at least
// two more than the last of the path, and says whether there was such a path.
// Where there is none, loads are as even as they can be (Harvey, Ladner,
// Lovász and Tamir, Semi-matchings for bipartite graphs, 2006).
func (b *balancing) improve() bool {
	if len(b.load) == 0 || slices.Max(b.load)-slices.Min(b.load) < 2 {
		return false
	}
	for from := range b.reviewers {
		if b.improveFrom(from) {
			return true
		}
	}
	return false
}

func (b *balancing) improveFrom(from int) bool {
	// via[r] is the pick that would move to r; it tells the way back.
	via := make([]int, len(b.reviewers))
	for r := range via {
		via[r] = nobody
	}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		for to := range b.reviewers {
			if to == from || via[to] != nobody {
				continue
			}
			pick := b.movable(queue[0], to)
			if pick == nobody {
				continue
			}
			via[to] = pick
			if b.load[to]+2 <= b.load[from] {
				b.shift(from, to, via)
				return true
			}
			queue = append(queue, to)
		}
	}
	return false
}

// movable is a pick that one reviewer has and the other may review.
func (b *balancing) movable(from, to int) int {
	for pick, r := range b.of {
		if r == from && b.reviewers[to].may(b.agents[pick]) {
			return pick
		}
	}
	return nobody
}

// shift moves the picks of the path that ends at to.
func (b *balancing) shift(from, to int, via []int) {
	b.load[from]--
	b.load[to]++
	for to != from {
		pick := via[to]
		to, b.of[pick] = b.of[pick], to
	}
}
