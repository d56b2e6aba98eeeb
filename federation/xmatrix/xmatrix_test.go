package xmatrix

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

var signer = &matrix.Signer{ServerName: "origin.test", KeyID: "ed25519:a_1", Key: ed25519.NewKeyFromSeed(make([]byte, 32))}

func TestSignAndParse(t *testing.T) {
	content := []byte(`{"a":"ü"}`)
	header := Sign(signer, "[::1]:8448", "PUT", "/_matrix/x?y=%20", content)
	want := `X-Matrix origin="origin.test",destination="[::1]:8448",key="ed25519:a_1",sig="`
	if !strings.HasPrefix(header, want) {
		t.Fatal(header)
	}
	a, err := Parse([]string{header})
	if err != nil {
		t.Fatal(err)
	}
	message := `{"content":{"a":"ü"},"destination":"[::1]:8448","method":"PUT","origin":"origin.test","uri":"/_matrix/x?y=%20"}`
	if got := a.Message("PUT", "/_matrix/x?y=%20", content); string(got) != message {
		t.Errorf("message %s", got)
	}
	public := signer.Key.Public().(ed25519.PublicKey)
	if !matrix.VerifySignature(public, []byte(message), a.Signature) {
		t.Error("the signature is wrong")
	}
	a.Destination = ""
	if got, want := string(a.Message("GET", "/", nil)), `{"method":"GET","origin":"origin.test","uri":"/"}`; got != want {
		t.Errorf("without destination and content: %s", got)
	}
}

func TestMessageIsCanonical(t *testing.T) {
	a := Authorization{Origin: "a.test", Destination: "b.test"}
	message := a.Message("GET", "/\"\\\u2028<>&\x7f", []byte(`[1,2]`))
	canonical, err := matrix.CanonicalJSON(message, true)
	if err != nil || string(canonical) != string(message) {
		t.Errorf("%s, canonical %s, %v", message, canonical, err)
	}
}

func TestParseAccepts(t *testing.T) {
	want := &Authorization{Origin: "a.test", Destination: "b.test:8448", Key: "ed25519:k", Signature: "c2ln"}
	for _, header := range []string{
		`X-Matrix origin="a.test",destination="b.test:8448",key="ed25519:k",sig="c2ln"`,
		`X-Matrix origin=a.test,destination=b.test:8448,key=ed25519:k,sig=c2ln`,
		`x-mAtRiX   ORIGIN = "a.test" , Destination="b.test:8448"	,	kEy=ed25519:k,,sig="c2ln",`,
		`X-Matrix sig="c2\ln",key="ed25519:k",future="x, \"y\"=",destination="b.test:8448",origin="\a.test"`,
		`X-Matrix origin=a.test,destination=b.test:8448,key=ed25519:k,signature=c2ln`,
	} {
		got, err := Parse([]string{header})
		if err != nil {
			t.Errorf("%s: %v", header, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", header, diff)
		}
	}
}

func TestParseWithoutDestination(t *testing.T) {
	a, err := Parse([]string{`X-Matrix origin=a.test,key=ed25519:k,sig=c2ln`})
	if err != nil || a.Destination != "" {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestParseRefuses: a header that can be read in two ways, or in none, proves nothing (F48).
func TestParseRefuses(t *testing.T) {
	good := `X-Matrix origin=a.test,destination=b.test,key=ed25519:k,sig=c2ln`
	for _, header := range []string{
		`X-Matrix`, `X-Matrix `, `X-Matrix ,,,`, `X-Matrix c2ln`, `X-Matrix c2ln==`,
		good + `,origin=a.test`, good + `,ORIGIN=b.test`, good + `,x=1,X=2`, good + `,signature=c2ln`,
		good + ` x=1`, good + `,x`, good + `,x=`, good + `,=x`, good + `,x="`, good + `,x="\`, good + `,x="\"`, good + `,x="y"z`,
		good + ",x=\"a\nb\"", good + ",x=\"\\\x00\"", good + ",x=\"\x7f\"", good + ",x=\x00", good + ";x=1",
		good + `,x="` + strings.Repeat("y", maxHeader) + `"`,
		good + manyParameters(maxParameters),
		`X-Matrix destination=b.test,key=ed25519:k,sig=c2ln`,
		`X-Matrix origin=a.test,sig=c2ln`,
		`X-Matrix origin=a.test,key=ed25519:k`,
		`X-Matrix origin="a test",key=ed25519:k,sig=c2ln`,
		`X-Matrix origin="a.test/x",key=ed25519:k,sig=c2ln`,
		`X-Matrix origin="",key=ed25519:k,sig=c2ln`,
		`X-Matrix origin=a.test,destination="",key=ed25519:k,sig=c2ln`,
		`X-Matrix origin=a.test,destination="b.test\"",key=ed25519:k,sig=c2ln`,
		`X-Matrix origin=a.test,key=rsa:k,sig=c2ln`, `X-Matrix origin=a.test,key="ed25519:",sig=c2ln`,
		`X-Matrix origin=a.test,key="ed25519:a b",sig=c2ln`, `X-Matrix origin=a.test,key="ed25519:ü",sig=c2ln`,
		`X-Matrix origin=a.test,key="ed25519:` + strings.Repeat("k", maxKeyID) + `",sig=c2ln`,
		`X-Matrix origin=a.test,key=ed25519:k,sig=""`, `X-Matrix origin=a.test,key=ed25519:k,sig="c2 ln"`,
		"X-Matrix origin=" + strings.Repeat("a", 1<<20),
	} {
		if a, err := Parse([]string{header}); err == nil || errors.Is(err, ErrMissing) {
			t.Errorf("%.120s: %+v, %v", header, a, err)
		}
	}
	if _, err := Parse([]string{good, good}); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("two headers: %v", err)
	}
	for _, headers := range [][]string{nil, {""}, {"Bearer abc"}, {"X-Matrixorigin=a.test"}} {
		if _, err := Parse(headers); !errors.Is(err, ErrMissing) {
			t.Errorf("%q: %v", headers, err)
		}
	}
}

func manyParameters(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(",p" + strings.Repeat("x", i) + "=1")
	}
	return text.String()
}

func FuzzParse(f *testing.F) {
	f.Add(`X-Matrix origin="a.test",destination="b.test:8448",key="ed25519:k",sig="c2ln"`)
	f.Add(`x-matrix origin = a.test , , key=ed25519:k,sig="c2\ln",q="\""`)
	f.Add(`X-Matrix origin=[::1]:80,key="ed25519:k",sig="c2ln"`)
	f.Add("X-Matrix \x00=\"\\")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := Parse([]string{header})
		if err != nil {
			return
		}
		if !matrix.ValidServerName(a.Origin) {
			t.Errorf("origin %q", a.Origin)
		}
		again, err := Parse([]string{a.String()})
		if err != nil {
			t.Fatalf("%q became %q: %v", header, a.String(), err)
		}
		if diff := cmp.Diff(a, again); diff != "" {
			t.Error(diff)
		}
	})
}

// benchmarkContent is about as much as a transaction of one event.
var benchmarkContent = []byte(`{"edus":[],"origin":"origin.test","origin_server_ts":1,"pdus":[{"content":{"body":"` + strings.Repeat("x", 900) + `"}}]}`)

func BenchmarkSign(b *testing.B) {
	for b.Loop() {
		Sign(signer, "destination.test", "PUT", "/_matrix/federation/v1/send/1", benchmarkContent)
	}
}

func BenchmarkVerify(b *testing.B) {
	header := Sign(signer, "destination.test", "PUT", "/_matrix/federation/v1/send/1", benchmarkContent)
	public := signer.Key.Public().(ed25519.PublicKey)
	for b.Loop() {
		a, err := Parse([]string{header})
		if err != nil || !matrix.VerifySignature(public, a.Message("PUT", "/_matrix/federation/v1/send/1", benchmarkContent), a.Signature) {
			b.Fatal(err)
		}
	}
}
