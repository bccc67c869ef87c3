package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"earmark/internal/ledger"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

type verifyCommand struct {
	settings `embed:""`
	Files    []string `arg:"" optional:"" type:"existingfile" help:"Certificates, receipts or manifests."`
	Key      string   `help:"The ledger's public key, or a file that holds it; ledger.pub of the data directory when left out."`
	All      bool     `help:"Recompute everything that the running service has stored: ledger, recordings, purges, draws."`
}

func (c *verifyCommand) Help() string {
	return `A document needs nothing but the public key, on any machine:

  curl -s http://127.0.0.1:8080/v1/ledger/key > ledger.pub
  earmark verify --key ledger.pub certificate.json

Everything that a service keeps, on the service's own machine:

  earmark verify --all`
}

var errProblems = errors.New("not everything is as it should be")

// Run checks documents, or all that is stored.
func (c *verifyCommand) Run(ctx context.Context, o *output) error {
	switch {
	case c.All && len(c.Files) > 0, !c.All && len(c.Files) == 0:
		return fmt.Errorf("%w: name files, or say --all", errUsage)
	case c.All:
		return c.verifyAll(ctx, o)
	}
	verifier, err := c.verifier()
	if err != nil {
		return err
	}
	for _, file := range c.Files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := verifyDocument(o.out, data, verifier); err != nil {
			return fmt.Errorf("%s: REFUSED: %w", file, err)
		}
	}
	return nil
}

func (c *verifyCommand) verifier() (note.Verifier, error) {
	key := c.Key
	if key == "" {
		key = filepath.Join(c.Data, publicKeyFile)
	}
	text, err := os.ReadFile(key)
	switch {
	case err == nil:
		key = string(text)
	case c.Key == "":
		return nil, fmt.Errorf("%w: say --key with the ledger's public key; the service tells it at /v1/ledger/key", errUsage)
	}
	verifier, err := ledger.ParseVerifier(strings.TrimSpace(key))
	if err != nil {
		return nil, fmt.Errorf("%w: --key: %w", errUsage, err)
	}
	return verifier, nil
}

// verifyDocument checks a signed document and prints what it says.
func verifyDocument(w io.Writer, data []byte, verifier note.Verifier) error {
	kind, document, err := ledger.OpenDocument(data, verifier)
	if err != nil {
		return err
	}
	switch kind {
	case lifecycle.CertificateType:
		certificate, err := lifecycle.VerifyCertificate(data, verifier)
		if err != nil {
			return err
		}
		return certificate.Describe(w)
	case quality.ManifestType:
		report, err := quality.VerifyManifest(data, verifier)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "Draw %s: drawn again from its seed, the same %d of %d picks.\n", report.DrawID, report.Picked, report.Eligible)
		return nil
	default:
		var indented bytes.Buffer
		if err := json.Indent(&indented, document, "", "  "); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: the signature holds.\n%s\n", kind, indented.String())
		return nil
	}
}

// verifyAll recomputes everything from what is stored.
func (c *verifyCommand) verifyAll(ctx context.Context, o *output) (err error) {
	s, err := c.found()
	if err != nil {
		return err
	}
	v, err := openService(ctx, s, limits{}, o.logger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	problems := 0
	report := func(problem string) {
		problems++
		fmt.Fprintln(o.out, problem)
	}
	for _, part := range []struct {
		name   string
		verify func(context.Context, func(string)) error
	}{
		{"ledger", v.verifyLedger},
		{"recordings", v.archive.Verify},
		{"purges", v.lifecycle.VerifyAll},
		{"draws", v.quality.Verify},
	} {
		before := problems
		if err := part.verify(ctx, report); err != nil {
			return fmt.Errorf("verify %s: %w", part.name, err)
		}
		if problems == before {
			fmt.Fprintf(o.out, "%s: as it should be\n", part.name)
		}
	}
	if problems > 0 {
		return fmt.Errorf("%w: %d problems", errProblems, problems)
	}
	return nil
}

func (v *service) verifyLedger(ctx context.Context, report func(string)) error {
	found, err := v.audit.Verify(ctx)
	for _, problem := range found.Problems {
		report(problem.String())
	}
	return err
}
