// Package identity asks identity servers who has an address outside of Matrix, and has
// them keep invites for whom nobody knows yet (identity service API). It asks those
// servers alone that the operator has named.
package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"beep/matrix"
	"beep/outbound"
	"beep/roomserver"
)

const (
	// timeout bounds a request.
	timeout = 10 * time.Second
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 64 << 10
	// maxKeys bounds the keys of a stored invite, and those that are asked for to check one
	// signed object.
	maxKeys = 8
	// maxText bounds other texts of an answer, in bytes.
	maxText = 1000
)

// Options are what a [Client] needs.
type Options struct {
	// Servers are the identity servers that may be asked.
	Servers   []string
	Dialer    *outbound.Dialer
	UserAgent string
}

// Client asks identity servers. It is safe for concurrent use.
type Client struct {
	servers   []string
	userAgent string
	http      *http.Client
}

// New makes a client.
func New(o Options) *Client {
	c := &Client{userAgent: o.UserAgent, http: o.Dialer.Client(timeout, 0)}
	for _, server := range o.Servers {
		c.servers = append(c.servers, canonical(server))
	}
	return c
}

// canonical is a server's name as names are compared.
func canonical(server string) string { return strings.TrimSuffix(strings.ToLower(server), ":443") }

// Trusted refuses an identity server that the operator has not named.
// [matrix.ServerNotTrusted].
func (c *Client) Trusted(server string) error {
	if !slices.Contains(c.servers, canonical(server)) {
		return matrix.ServerNotTrusted.With("This server does not ask that identity server: its operator has not named it in identity_servers.allow")
	}
	return nil
}

// Lookup finds the user who has an address; "" for nobody. The identity server learns a
// hash of the address. [matrix.Forbidden]: it does not know the access token as the user's.
func (c *Client) Lookup(ctx context.Context, q *roomserver.AddressQuery) (string, error) {
	if err := c.checkAccount(ctx, q); err != nil {
		return "", err
	}
	userID, err := c.lookup(ctx, q)
	if refusal := refusalOf(err); refusal != nil && refusal.Code == "M_INVALID_PEPPER" {
		userID, err = c.lookup(ctx, q) // it has another one since a moment ago
	}
	return userID, err
}

// checkAccount refuses an access token that is not the user's own.
func (c *Client) checkAccount(ctx context.Context, q *roomserver.AddressQuery) error {
	var account struct {
		UserID string `json:"user_id"`
	}
	err := c.do(ctx, call{server: q.Server, method: http.MethodGet, path: "/account", token: q.Token}, &account)
	if err == nil && account.UserID != q.UserID {
		err = matrix.Forbidden.With("id_access_token is not the user's own")
	}
	return err
}

func (c *Client) lookup(ctx context.Context, q *roomserver.AddressQuery) (string, error) {
	var details struct {
		Pepper     string   `json:"lookup_pepper"`
		Algorithms []string `json:"algorithms"`
	}
	if err := c.do(ctx, call{server: q.Server, method: http.MethodGet, path: "/hash_details", token: q.Token}, &details); err != nil {
		return "", err
	}
	if !slices.Contains(details.Algorithms, "sha256") || len(details.Pepper) > maxText {
		return "", badAnswer(q.Server, "it does not look up hashes")
	}
	sum := sha256.Sum256([]byte(q.Address + " " + q.Medium + " " + details.Pepper))
	hash := base64.RawURLEncoding.EncodeToString(sum[:])
	var found struct {
		Mappings map[string]string `json:"mappings"`
	}
	err := c.do(ctx, call{server: q.Server, method: http.MethodPost, path: "/lookup", token: q.Token,
		body: map[string]any{"algorithm": "sha256", "pepper": details.Pepper, "addresses": []string{hash}}}, &found)
	if err != nil {
		return "", err
	}
	userID := found.Mappings[hash]
	if userID != "" && !matrix.ValidUserID(userID) {
		return "", badAnswer(q.Server, "the address belongs to what is no user id")
	}
	return userID, nil
}

// storedToken is what the token of a stored invite may be.
var storedToken = regexp.MustCompile(`^[0-9a-zA-Z.=_-]{1,255}$`)

// StoreInvite has the identity server keep an invite until somebody has the address. If
// somebody has it by now, the answer names that user.
func (c *Client) StoreInvite(ctx context.Context, q *roomserver.AddressQuery, room *roomserver.InvitedRoom) (*roomserver.StoredInvite, error) {
	body := struct {
		Medium  string `json:"medium"`
		Address string `json:"address"`
		Sender  string `json:"sender"`
		*roomserver.InvitedRoom
	}{q.Medium, q.Address, q.UserID, room}
	var answer struct {
		Token       string                 `json:"token"`
		DisplayName string                 `json:"display_name"`
		Keys        []roomserver.InviteKey `json:"public_keys"`
	}
	err := c.do(ctx, call{server: q.Server, method: http.MethodPost, path: "/store-invite", token: q.Token, body: body}, &answer)
	if refusal := refusalOf(err); refusal != nil && refusal.Code == "M_THREEPID_IN_USE" && matrix.ValidUserID(refusal.UserID) {
		return &roomserver.StoredInvite{UserID: refusal.UserID}, nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !storedToken.MatchString(answer.Token):
		return nil, badAnswer(q.Server, "the token of the invite is none")
	case len(answer.DisplayName) > maxText || !matrix.ValidText(answer.DisplayName):
		return nil, badAnswer(q.Server, "the display name of the invite is none")
	case len(answer.Keys) == 0 || len(answer.Keys) > maxKeys:
		return nil, badAnswer(q.Server, "the invite has no keys, or too many")
	}
	for _, key := range answer.Keys {
		if _, err := roomserver.DecodeInviteKey(key.Key); err != nil || !c.mayAsk(key.ValidityURL) {
			return nil, badAnswer(q.Server, "a key of the invite is none, or is not checked at an identity server of identity_servers.allow")
		}
	}
	return &roomserver.StoredInvite{Token: answer.Token, DisplayName: answer.DisplayName, Keys: answer.Keys}, nil
}

// mayAsk tells whether a key's validity may be asked for at the address.
func (c *Client) mayAsk(address string) bool {
	u, err := url.Parse(address)
	return err == nil && len(address) <= maxText && u.Scheme == "https" && u.User == nil && u.Opaque == "" && c.Trusted(u.Host) == nil
}

// KeyValid asks at the address that belongs to a key of an invite whether the key is still
// good. [matrix.ServerNotTrusted].
func (c *Client) KeyValid(ctx context.Context, key roomserver.InviteKey) (bool, error) {
	if !c.mayAsk(key.ValidityURL) {
		return false, matrix.ServerNotTrusted.With("The key of this invite cannot be checked: the operator of this server has not named its identity server in identity_servers.allow")
	}
	u, err := url.Parse(key.ValidityURL)
	if err != nil {
		return false, err
	}
	query := u.Query()
	query.Set("public_key", key.Key)
	u.RawQuery, u.Fragment = query.Encode(), ""
	var answer struct {
		Valid bool `json:"valid"`
	}
	err = c.fetch(ctx, http.MethodGet, u, call{server: u.Host}, &answer)
	return answer.Valid, err
}

var keyID = regexp.MustCompile(`^ed25519:[0-9a-zA-Z_]{1,64}$`)

// Verify tells whether one of the named identity servers has signed, with a key that it
// publishes. [matrix.Forbidden]: none has.
func (c *Client) Verify(ctx context.Context, signed *matrix.Signed) error {
	tried := 0
	for server, signatures := range signed.Signatures {
		if c.Trusted(server) != nil {
			continue
		}
		for id, signature := range signatures {
			if tried == maxKeys || !keyID.MatchString(id) {
				continue
			}
			tried++
			key, err := c.publicKey(ctx, server, id)
			if err != nil && refusalOf(err) == nil {
				return err
			}
			if decoded, bad := roomserver.DecodeInviteKey(key); err == nil && bad == nil && matrix.VerifySignature(decoded, signed.Message, signature) {
				return nil
			}
		}
	}
	return matrix.Forbidden.With("No identity server that the operator of this server has named in identity_servers.allow has signed this")
}

func (c *Client) publicKey(ctx context.Context, server, id string) (string, error) {
	var answer struct {
		Key string `json:"public_key"`
	}
	err := c.do(ctx, call{server: server, method: http.MethodGet, path: "/pubkey/" + id}, &answer)
	return answer.Key, err
}
