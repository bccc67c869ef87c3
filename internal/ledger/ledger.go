// Package ledger is the log as mathematics: how an entry is written down, how
// entries form a Merkle tree (RFC 6962), how a tree's state is signed
// (a C2SP tlog-checkpoint in a signed note) and how a single fact is signed
// (a document). It reads no database, clock or network, so that an outsider
// with the public key alone checks with the same code what the service wrote.
package ledger

import "errors"

var (
	// ErrMalformed is returned for input that is not in the one form that this
	// package writes.
	ErrMalformed = errors.New("malformed")
	// ErrSignature is returned for input signed by a known key whose signature
	// does not fit what it is said to sign.
	ErrSignature = errors.New("signature does not match")
	// ErrUnknownKey is returned for input that none of the given keys signed.
	ErrUnknownKey = errors.New("signed by an unknown key")
	// ErrProof is returned when hashes do not prove what they are said to prove.
	ErrProof = errors.New("proof does not hold")
)
