package account

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

const (
	accessPrefix  = "bp_"
	refreshPrefix = "bpr_"
	// secretSize is the size of a token's secret in bytes.
	secretSize = 32
	// familySize is the size of the name that the refresh tokens of one login share.
	familySize = 16
)

// newSecret is a fresh token of 256 random bits after a prefix.
func newSecret(prefix string) string {
	return prefix + base64.RawURLEncoding.EncodeToString(randomBytes(secretSize))
}

// newRefreshToken is a fresh refresh token of the family.
func newRefreshToken(family []byte) string {
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(append(family[:familySize:familySize], randomBytes(secretSize)...))
}

// familyOf reads the family out of a refresh token; ok is false for what is none.
func familyOf(token string) (family []byte, ok bool) {
	text, ok := strings.CutPrefix(token, refreshPrefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(familySize+secretSize) {
		return nil, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	return b[:familySize], true
}

const (
	capitals    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	nameLetters = "abcdefghijklmnopqrstuvwxyz234567"
	tokenChars  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
)

// randomText is n random characters of an alphabet, each equally likely.
func randomText(n int, alphabet string) string {
	text := make([]byte, 0, n)
	// A byte at or over this bound would favour the first characters.
	bound := 256 - 256%len(alphabet)
	var random [64]byte
	for len(text) < n {
		rand.Read(random[:]) // never fails
		for _, b := range random {
			if int(b) < bound && len(text) < n {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(text)
}

// newDeviceID is a device id as this server makes them.
func newDeviceID() string { return randomText(10, capitals) }

// newLocalpart is the name of a user who asks for none.
func newLocalpart() string { return "u" + randomText(11, nameLetters) }
