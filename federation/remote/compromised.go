package remote

import (
	"crypto/ed25519"
	"encoding/base64"
)

// knownCompromised are verify keys whose private halves everybody can have: what they
// sign proves nothing.
var knownCompromised = [...]string{
	// Made by a deployment tool from a random generator that was never seeded
	// (CVE-2026-24044).
	"l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og",
	// The test vectors of the specification (appendices, "Cryptographic Test Vectors").
	"XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI",
}

// Compromised tells whether a key is publicly known to be compromised; a server whose own
// key this is needs a new one.
func Compromised(key ed25519.PublicKey) bool { return compromised(nil)[string(key)] }

// compromised is the set of all such keys, by their bytes.
func compromised(more []ed25519.PublicKey) map[string]bool {
	set := map[string]bool{}
	for _, text := range knownCompromised {
		if key, err := base64.RawStdEncoding.DecodeString(text); err == nil {
			set[string(key)] = true
		}
	}
	for _, key := range more {
		set[string(key)] = true
	}
	return set
}
