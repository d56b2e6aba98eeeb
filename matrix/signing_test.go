package matrix

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// specSigner is the key of the specification's test vectors.
func specSigner(t *testing.T) *Signer {
	seed, err := DecodeBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{ServerName: "domain", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(seed)}
}

func TestSignJSONVectors(t *testing.T) {
	signer := specSigner(t)
	for object, want := range map[string]string{
		`{}`: `{"signatures":{"domain":{"ed25519:1":"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"}}}`,
		`{"two": "Two", "unsigned": {"x": 1}, "one": 1}`: `{"one":1,"signatures":{"domain":{"ed25519:1":"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"}},"two":"Two"}`,
	} {
		got, err := signer.SignJSON([]byte(object))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", object, got, err)
		}
	}
}

func TestSignaturesAreAdded(t *testing.T) {
	signer := specSigner(t)
	object := `{"a":1,"signatures":{"other":{"ed25519:x":"c2ln","n":5},"odd":[],"domain":{"ed25519:0":"b2xk"}}}`
	got, err := signer.SignJSON([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ParseSigned(got, true)
	if err != nil {
		t.Fatal(err)
	}
	signature := signed.Signatures["domain"]["ed25519:1"]
	want := map[string]map[string]string{"other": {"ed25519:x": "c2ln"}, "domain": {"ed25519:0": "b2xk", "ed25519:1": signature}}
	if diff := cmp.Diff(want, signed.Signatures); diff != "" {
		t.Error(diff)
	}
	public := signer.Key.Public().(ed25519.PublicKey)
	if string(signed.Message) != `{"a":1}` || !VerifySignature(public, signed.Message, signature) {
		t.Errorf("message %s", signed.Message)
	}
	if VerifySignature(public, []byte(`{"a":2}`), signature) {
		t.Error("the signature holds for another message")
	}
}

func TestParseSignedRefuses(t *testing.T) {
	for _, text := range []string{``, `[]`, `"x"`, `{"a":1,"a":2}`, `{"a":1.5}`, `{"a":}`, `{} {}`, strings.Repeat(`{"a":`, 2000) + `1` + strings.Repeat(`}`, 2000)} {
		if _, err := ParseSigned([]byte(text), true); err == nil {
			t.Errorf("%.40s is taken", text)
		}
	}
}

func TestDecodeBase64(t *testing.T) {
	for text, want := range map[string]string{"": "", "Zg": "f", "Zg==": "f", "Zm8": "fo", "Zm8=": "fo", "Zm9v": "foo", "Zh": "f", "+/+/": "\xfb\xff\xbf"} {
		if got, err := DecodeBase64(text); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"Z", "Zg=", "Zm8==", "Zm9v====", "Zm\n8", "Zm8\r", "_-_-", "Zm 8", "Z===", "=", "Zm=8"} {
		if got, err := DecodeBase64(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}

// TestWeakKeysAreRefused shows of each encoding why it is refused: it verifies a signature that
// was made without a key. Those with a y coordinate beyond the field are other ways to
// write a key.
func TestWeakKeysAreRefused(t *testing.T) {
	identity := append([]byte{1}, make([]byte, 31)...)
	forged := append(bytes.Clone(identity), make([]byte, 32)...) // R is the neutral point, S is 0
	for _, point := range smallOrderPoints {
		for _, sign := range []byte{0, 0x80} {
			key := []byte(point)
			key[31] |= sign
			encoded := base64.RawStdEncoding.EncodeToString(key)
			if _, err := DecodeVerifyKey(encoded); err == nil {
				t.Errorf("%x is taken", key)
			}
			holds := false
			for i := range 500 {
				holds = holds || ed25519.Verify(key, fmt.Append(nil, i), forged)
			}
			// Not every one of these with the other sign is a point at all.
			if !holds && sign == 0 {
				t.Errorf("%x verifies nothing forged: why refuse it?", key)
			}
		}
	}
	beyond := bytes.Repeat([]byte{0xff}, 32)
	beyond[0], beyond[31] = 0xf0, 0x7f // p + 3
	if _, err := DecodeVerifyKey(base64.RawStdEncoding.EncodeToString(beyond)); err == nil {
		t.Error("a key beyond the field is taken")
	}
	public := specSigner(t).Key.Public().(ed25519.PublicKey)
	for _, text := range []string{"", "AA", base64.RawStdEncoding.EncodeToString(append(public, 0)), "!"} {
		if _, err := DecodeVerifyKey(text); err == nil {
			t.Errorf("the key %q is taken", text)
		}
	}
	if key, err := DecodeVerifyKey(base64.StdEncoding.EncodeToString(public)); err != nil || !key.Equal(public) {
		t.Errorf("a good key: %x, %v", key, err)
	}
}

func TestVerifySignatureRefuses(t *testing.T) {
	signer := specSigner(t)
	public := signer.Key.Public().(ed25519.PublicKey)
	message := []byte("m")
	good := signer.Sign(message)
	raw, err := DecodeBase64(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, signature := range []string{"", "!", good[:80], good + "AAAA", good + "A", "=" + good, good + "\n",
		base64.RawStdEncoding.EncodeToString(append([]byte{1}, make([]byte, 63)...)),
		base64.RawStdEncoding.EncodeToString(append(bytes.Clone(raw), raw...))} {
		if VerifySignature(public, message, signature) {
			t.Errorf("%q is taken", signature)
		}
	}
	if !VerifySignature(public, message, good) || !VerifySignature(public, message, good+"==") {
		t.Error("a good signature is refused")
	}
}

func TestServerKeyValidAt(t *testing.T) {
	day := (24 * time.Hour).Milliseconds()
	inUse, old := ServerKey{ValidUntil: 10 * day}, ServerKey{Expired: 5 * day, ValidUntil: 10 * day}
	for _, c := range []struct {
		key    ServerKey
		at     int64
		strict bool
		want   bool
	}{
		{inUse, 10 * day, true, true}, {inUse, 10*day + 1, true, false}, {inUse, 11 * day, false, true},
		{old, 5 * day, true, true}, {old, 5*day + 1, true, false}, {old, 5*day + 1, false, false},
	} {
		if got := c.key.ValidAt(c.at, c.strict); got != c.want {
			t.Errorf("%+v at %d, strict %v: %v", c.key, c.at/day, c.strict, got)
		}
	}
	for v, want := range map[RoomVersion]bool{"1": false, "4": false, "5": true, "12": true} {
		if v.StrictKeys() != want {
			t.Errorf("version %s: %v", v, !want)
		}
	}
}
