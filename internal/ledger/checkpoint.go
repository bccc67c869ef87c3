package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxSize bounds the tree: far above any log, and low enough that the arithmetic
// on tree sizes cannot overflow.
const maxSize = maxInteger

// A Checkpoint states that the log named Origin had Size entries under the
// Merkle tree root Root (C2SP tlog-checkpoint, without extension lines).
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// Text is the checkpoint's body: origin, size in decimal and root in base64, each
// on a line.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// Sign returns the checkpoint as a signed note. Its origin must be the signer's
// name, so that a key speaks for one log only; otherwise, and for a size outside
// 0 to 2^53-1, the error wraps ErrMalformed.
func (c Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	if c.Origin != signer.Name() {
		return nil, fmt.Errorf("sign checkpoint: %w: origin %q, key of %q", ErrMalformed, c.Origin, signer.Name())
	}
	if err := checkSize(c.Size); err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// OpenCheckpoint reads a signed checkpoint. At least one of the verifiers, under
// the name that is the checkpoint's origin, must have signed it; signatures by
// other keys (witnesses) are let be. Errors wrap ErrMalformed, ErrSignature or
// ErrUnknownKey.
func OpenCheckpoint(signed []byte, verifiers ...note.Verifier) (Checkpoint, error) {
	opened, err := openNote(signed, verifiers)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	checkpoint, err := parseCheckpoint(opened.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	for _, signature := range opened.Sigs {
		if signature.Name == checkpoint.Origin {
			return checkpoint, nil
		}
	}
	return Checkpoint{}, fmt.Errorf("open checkpoint: %w: not signed for its origin", ErrUnknownKey)
}

func openNote(signed []byte, verifiers []note.Verifier) (*note.Note, error) {
	opened, err := note.Open(signed, keyring(verifiers))
	if _, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return nil, fmt.Errorf("%w: %w", ErrUnknownKey, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, signature := range opened.Sigs {
		if _, err := decodeBase64(signature.Base64); err != nil {
			return nil, err
		}
	}
	return opened, nil
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint has three lines", ErrMalformed)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: size: %w", ErrMalformed, err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: root: %w", ErrMalformed, err)
	}
	checkpoint := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if err := checkSize(size); err != nil {
		return Checkpoint{}, err
	}
	// The comparison catches other spellings: 007, loose base64, a missing line end.
	if checkpoint.Origin == "" || checkpoint.Text() != text {
		return Checkpoint{}, fmt.Errorf("%w: not the text of a checkpoint", ErrMalformed)
	}
	return checkpoint, nil
}

func checkSize(size int64) error {
	if size < 0 || size > maxSize {
		return fmt.Errorf("%w: tree size %d", ErrMalformed, size)
	}
	return nil
}

// decodeBase64 reads standard base64 in its only spelling: padded, no line
// breaks, unused bits zero.
func decodeBase64(text string) ([]byte, error) {
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(data) != text {
		return nil, fmt.Errorf("%w: not canonical base64", ErrMalformed)
	}
	return data, nil
}
