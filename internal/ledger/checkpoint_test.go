package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"earmark/internal/ledger"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func exampleCheckpoint() ledger.Checkpoint {
	return ledger.Checkpoint{Origin: "earmark.example/ledger", Size: 42, Root: ledger.LeafHash("root")}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	secret, public, err := ledger.NewSigner("earmark.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.ParseSigner(secret + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if signer.Verifier() != public {
		t.Errorf("public half %q, want %q", signer.Verifier(), public)
	}
	verifier, err := ledger.ParseVerifier(public + "\n")
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign([]byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if !verifier.Verify([]byte("text"), signature) {
		t.Error("the public half does not know the secret half's signature")
	}

	for _, name := range []string{"", "two words", "a+b"} {
		if _, _, err := ledger.NewSigner(name); !errors.Is(err, ledger.ErrMalformed) {
			t.Errorf("name %q: got %v, want ErrMalformed", name, err)
		}
	}
	for _, text := range []string{"", public, secret[:len(secret)-4], strings.Replace(secret, "earmark", "other", 1)} {
		_, err := ledger.ParseSigner(text)
		if !errors.Is(err, ledger.ErrMalformed) {
			t.Errorf("got %v, want ErrMalformed", err)
		}
	}
	for _, text := range []string{"", secret, public[:len(public)-4], strings.Replace(public, "earmark", "other", 1)} {
		if _, err := ledger.ParseVerifier(text); !errors.Is(err, ledger.ErrMalformed) {
			t.Errorf("%q: got %v, want ErrMalformed", text, err)
		}
	}
}

func TestCheckpointIsATlogCheckpoint(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example/ledger", 1)
	signed, err := exampleCheckpoint().Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("earmark.example/ledger\n42\n%s\n", ledger.LeafHash("root"))
	if opened.Text != want {
		t.Errorf("text %q, want %q", opened.Text, want)
	}
	// Listing a key twice, as a configuration may, changes nothing.
	checkpoint, err := ledger.OpenCheckpoint(signed, verifier, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleCheckpoint(), checkpoint); diff != "" {
		t.Error(diff)
	}
}

func TestCheckpointIsSignedForItsOwnLogOnly(t *testing.T) {
	t.Parallel()
	signer, _ := signerOf(t, "earmark.example/ledger", 1)
	other, otherVerifier := signerOf(t, "another.example", 2)
	if _, err := exampleCheckpoint().Sign(other); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("signing with another log's key: %v, want ErrMalformed", err)
	}
	for _, size := range []int64{-1, 1 << 53} {
		checkpoint := exampleCheckpoint()
		checkpoint.Size = size
		if _, err := checkpoint.Sign(signer); !errors.Is(err, ledger.ErrMalformed) {
			t.Errorf("signing size %d: %v, want ErrMalformed", size, err)
		}
	}
	foreign, err := note.Sign(&note.Note{Text: exampleCheckpoint().Text()}, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.OpenCheckpoint(foreign, otherVerifier); !errors.Is(err, ledger.ErrUnknownKey) {
		t.Errorf("opening with another log's key: %v, want ErrUnknownKey", err)
	}
}

func TestOpenCheckpointTakesAWitnessAlong(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example/ledger", 1)
	witness, _ := signerOf(t, "witness.example", 2)
	both, err := note.Sign(&note.Note{Text: exampleCheckpoint().Text()}, witness, signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.OpenCheckpoint(both, verifier); err != nil {
		t.Error(err)
	}
}

func TestOpenCheckpointRefusesOtherTexts(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example/ledger", 1)
	root := ledger.LeafHash("root").String()
	texts := map[string]string{
		"leading zero":     "earmark.example/ledger\n042\n" + root + "\n",
		"sign":             "earmark.example/ledger\n+42\n" + root + "\n",
		"negative":         "earmark.example/ledger\n-1\n" + root + "\n",
		"beyond 53 bits":   "earmark.example/ledger\n9223372036854775807\n" + root + "\n",
		"no root":          "earmark.example/ledger\n42\n",
		"short root":       "earmark.example/ledger\n42\n" + root[4:] + "\n",
		"unused root bits": "earmark.example/ledger\n42\n" + root[:42] + string(root[42]+1) + "=\n",
		"extension":        "earmark.example/ledger\n42\n" + root + "\nmore\n",
		"a document":       "earmark document v1\n{}\n" + root + "\n",
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signed, err := note.Sign(&note.Note{Text: text}, signer)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ledger.OpenCheckpoint(signed, verifier); !errors.Is(err, ledger.ErrMalformed) {
				t.Errorf("got %+v, %v; want ErrMalformed", got, err)
			}
		})
	}
}

func TestOpenCheckpointKnowsWhoSigned(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example/ledger", 1)
	_, other := signerOf(t, "earmark.example/ledger", 2)
	signed, err := exampleCheckpoint().Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.OpenCheckpoint(signed, other); !errors.Is(err, ledger.ErrUnknownKey) {
		t.Errorf("another key of the same name: %v, want ErrUnknownKey", err)
	}
	if _, err := ledger.OpenCheckpoint(signed); !errors.Is(err, ledger.ErrUnknownKey) {
		t.Errorf("no key at all: %v, want ErrUnknownKey", err)
	}
	changed := bytes.Replace(signed, []byte("\n42\n"), []byte("\n43\n"), 1)
	if _, err := ledger.OpenCheckpoint(changed, verifier); !errors.Is(err, ledger.ErrSignature) {
		t.Errorf("another size: %v, want ErrSignature", err)
	}
}

// Invariant 8, the ledger cannot be rewritten unseen: no changed byte of a
// checkpoint goes unnoticed.
func TestChangedCheckpointIsRefused(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example/ledger", 1)
	signed, err := exampleCheckpoint().Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	mutations(signed, func(changed []byte) {
		if checkpoint, err := ledger.OpenCheckpoint(changed, verifier); err == nil {
			t.Errorf("%q accepted as %+v", changed, checkpoint)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	signer, verifier := signerOf(f, "earmark.example/ledger", 1)
	signed, err := exampleCheckpoint().Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add([]byte("a\n1\n" + tlog.Hash{}.String() + "\n\n— a AAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		opened, err := ledger.OpenCheckpoint(data, verifier)
		if err != nil {
			return
		}
		if opened != exampleCheckpoint() {
			t.Fatalf("%+v was never signed", opened)
		}
	})
}
