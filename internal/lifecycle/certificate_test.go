package lifecycle

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/ledger"
)

func sample() Certificate {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	until := at.AddDate(5, 0, 0)
	item := uuid.MustParse("0195f000-0000-7000-8000-000000000001")
	held := uuid.MustParse("0195f000-0000-7000-8000-000000000002")
	return Certificate{
		Type: CertificateType, PurgeID: uuid.MustParse("0195f000-0000-7000-8000-000000000003"),
		Kind: "chosen", Reason: "case closed", RequestedBy: "person:a", RequestedAt: at,
		ApprovedBy: "person:b", ApprovedAt: at, FinishedAt: at, Statement: statement,
		Items:  []CertifiedItem{{item, 2, 16058, at, 3, at}},
		Exempt: []CertifiedExempt{{held, "held_legal"}},
		Remaining: []CertifiedRemaining{{item, archive.Remaining{
			Key: "2026/03/01/" + item.String() + "/r.age", Until: &until, Reason: "locked"}}},
	}
}

func TestEditedCertificateIsRefused(t *testing.T) {
	t.Parallel()
	s, verifier := signer(t)
	want := sample()
	signed, err := ledger.SignDocument(s, CertificateType, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := VerifyCertificate(signed, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Fatalf("certificate (-signed +read):\n%s", diff)
	}
	for i := range signed {
		edited := bytes.Clone(signed)
		edited[i] ^= 1
		c, err := VerifyCertificate(edited, verifier)
		if err != nil {
			continue
		}
		// White space may differ, and nothing else.
		if diff := cmp.Diff(&want, c); diff != "" {
			t.Fatalf("edited at byte %d it is accepted and says (-signed +read):\n%s", i, diff)
		}
	}
	_, stranger := signer(t)
	if _, err := VerifyCertificate(signed, stranger); !errors.Is(err, ledger.ErrUnknownKey) {
		t.Errorf("by a stranger's key: %v, want ErrUnknownKey", err)
	}
	receipt, err := ledger.SignDocument(s, "earmark.receipt/1", map[string]any{"purge_id": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyCertificate(receipt, verifier); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("another document of the same key: %v, want ErrMalformed", err)
	}
}

func TestCertificateIsReadable(t *testing.T) {
	t.Parallel()
	c := sample()
	var b strings.Builder
	if err := c.Describe(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		c.PurgeID.String(), "case closed", "person:a", "person:b", "2026-03-01T12:00:00Z",
		"1 interactions, 2 recordings, 16058 bytes, 3 object versions",
		c.Items[0].InteractionID.String(), "held_legal", "until 2031-03-01T12:00:00Z",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, b.String())
		}
	}
}

// Whatever is changed behind the service's back, VerifyAll tells.
func TestVerifyAllFindsWhatWasChanged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(t *testing.T, b *bundle, purge, item uuid.UUID)
		want   string
	}{
		"nothing": {func(*testing.T, *bundle, uuid.UUID, uuid.UUID) {}, ""},
		"the certificate": {func(t *testing.T, b *bundle, purge, _ uuid.UUID) {
			b.exec(t, `update purges set certificate = convert_to(replace(convert_from(certificate, 'UTF8'), 'case closed', 'case open'), 'UTF8') where id = $1`, purge)
		}, "does not verify"},
		"its copy": {func(t *testing.T, b *bundle, purge, _ uuid.UUID) {
			if _, err := b.store.Delete(t.Context(), blob.Ref{Key: certificateKey(purge)}); err != nil {
				t.Fatal(err)
			}
		}, "copy in the object store"},
		"the purge's record": {func(t *testing.T, b *bundle, purge, _ uuid.UUID) {
			b.exec(t, `update purges set approved_by = 'person:nobody' where id = $1`, purge)
		}, "not what was certified"},
		"an item": {func(t *testing.T, b *bundle, purge, item uuid.UUID) {
			b.exec(t, `update purge_items set state = 'pending' where purge_id = $1 and interaction_id = $2`, purge, item)
		}, "not at its end"},
		"a tombstone": {func(t *testing.T, b *bundle, _, item uuid.UUID) {
			b.exec(t, `update interactions set state = 'active' where id = $1`, item)
		}, "not a tombstone"},
		"a tombstone of its own": {func(t *testing.T, b *bundle, _, _ uuid.UUID) {
			b.exec(t, `update interactions set state = 'erased' where id = $1`, b.call(t))
		}, "no purge accounts for it"},
		"an object that came back": {func(t *testing.T, b *bundle, _, item uuid.UUID) {
			received := value[time.Time](t, b, `select received_at from interactions where id = $1`, item)
			key := received.UTC().Format("2006/01/02/") + item.String() + "/" + uuid.NewString() + ".age"
			if _, err := b.store.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}, "has objects of it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			item := b.call(t)
			purge := b.approved(t, item)
			b.run(t, purge)
			test.change(t, b, purge, item)
			var problems []string
			if err := b.VerifyAll(t.Context(), func(p string) { problems = append(problems, p) }); err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(problems) > 0 {
				t.Errorf("reported %q, want nothing", problems)
			}
			if test.want != "" && !strings.Contains(strings.Join(problems, "\n"), test.want) {
				t.Errorf("reported %q, want %q", problems, test.want)
			}
		})
	}
}

func FuzzVerifyCertificate(f *testing.F) {
	s, verifier := signer(f)
	signed, err := ledger.SignDocument(s, CertificateType, sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add([]byte(`{"document":{"type":"earmark.purge_certificate/1"},"signature":{"key":"a","value":""}}`))
	want := sample()
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := VerifyCertificate(data, verifier)
		if err == nil && !cmp.Equal(&want, c) {
			t.Errorf("what nobody signed is accepted: %+v", c)
		}
	})
}
