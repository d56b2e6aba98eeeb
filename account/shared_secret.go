package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"beep/matrix"
)

const (
	// nonceLifetime is how long a script has to register with a nonce.
	nonceLifetime = time.Minute
	// mostNonces bounds the memory; beyond it the oldest is forgotten.
	mostNonces = 1000
)

// nonces are what scripts have been given to register with, each good for once.
type nonces struct {
	now func() time.Time
	mu  sync.Mutex
	all *simplelru.LRU[string, time.Time]
}

func newNonces(now func() time.Time) *nonces {
	// The constructor fails only for a size that is not positive.
	all, _ := simplelru.NewLRU[string, time.Time](mostNonces, nil)
	return &nonces{now: now, all: all}
}

func (n *nonces) make() string {
	nonce := hex.EncodeToString(randomBytes(secretSize))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all.Add(nonce, n.now().Add(nonceLifetime))
	return nonce
}

func (n *nonces) use(nonce string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	expires, ok := n.all.Peek(nonce)
	n.all.Remove(nonce)
	return ok && n.now().Before(expires)
}

// SecretRegistration is a script's wish for an account.
type SecretRegistration struct {
	Nonce    string
	Username string
	Password string
	// DisplayName is how the user is shown; "" shows the username.
	DisplayName string
	Admin       bool
	UserType    string // bot, support or ""
	// MAC is the HMAC-SHA1 under the shared secret, in hexadecimal, of the nonce,
	// the username, the password, admin or notadmin, and the user type if there is
	// one, with a NUL between each two.
	MAC string
	// InhibitLogin makes no session.
	InhibitLogin bool
}

// NewNonce is for one [Accounts.RegisterBySecret] within a minute. M_FORBIDDEN where
// there is no shared secret.
func (a *Accounts) NewNonce() (string, error) {
	if a.options.Registration.SharedSecret == "" {
		return "", errNoSharedSecret
	}
	return a.nonces.make(), nil
}

var errNoSharedSecret = matrix.Forbidden.With("Registration by shared secret is not enabled on this server")

// RegisterBySecret makes an account for whoever knows the shared secret, whether or
// not registration is open. M_FORBIDDEN, and as [Accounts.CreateUser].
func (a *Accounts) RegisterBySecret(ctx context.Context, r SecretRegistration) (*Session, error) {
	if a.options.Registration.SharedSecret == "" {
		return nil, errNoSharedSecret
	}
	if !a.nonces.use(r.Nonce) {
		return nil, matrix.InvalidParam.With("The nonce is not known, or no longer")
	}
	given, err := hex.DecodeString(r.MAC)
	if err != nil || !hmac.Equal(given, r.mac(a.options.Registration.SharedSecret)) {
		return nil, matrix.Forbidden.With("The HMAC is wrong")
	}
	if r.UserType != "" && r.UserType != "bot" && r.UserType != "support" {
		return nil, matrix.InvalidParam.With("user_type must be bot or support")
	}
	if err := checkDisplayName(r.DisplayName); err != nil {
		return nil, err
	}
	userID, err := a.createUser(ctx, r.Username, r.Password, User{Admin: r.Admin, Type: r.UserType}, r.DisplayName)
	if err != nil {
		return nil, err
	}
	if r.InhibitLogin {
		return &Session{UserID: userID}, nil
	}
	return a.OpenSession(ctx, userID, DeviceRequest{})
}

func (r *SecretRegistration) mac(secret string) []byte {
	parts := []string{r.Nonce, r.Username, r.Password, "notadmin"}
	if r.Admin {
		parts[3] = "admin"
	}
	if r.UserType != "" {
		parts = append(parts, r.UserType)
	}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.Join(parts, "\x00")))
	return mac.Sum(nil)
}
