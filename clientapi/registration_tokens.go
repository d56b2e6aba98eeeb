package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
	"beep/storage"
	"beep/web"
)

// defaultTokenLength is the length of a registration token that nobody named.
const defaultTokenLength = 16

// registrationToken is a registration token as Synapse's admin API shows it.
type registrationToken struct {
	Token       string `json:"token"`
	UsesAllowed *int64 `json:"uses_allowed"`
	Pending     int64  `json:"pending"`
	Completed   int64  `json:"completed"`
	ExpiryTime  *int64 `json:"expiry_time"`
}

func tokenAnswer(t account.RegistrationToken) *registrationToken {
	return &registrationToken{t.Token, t.UsesAllowed, t.Pending, t.Completed, t.Expires}
}

type tokensRequest struct {
	Valid *bool `query:"valid"`
}

type tokensAnswer struct {
	RegistrationTokens []*registrationToken `json:"registration_tokens"`
}

// registrationTokens is GET /_synapse/admin/v1/registration_tokens.
func (a *API) registrationTokens(ctx context.Context, _ *account.Caller, req *tokensRequest) (*tokensAnswer, error) {
	tokens, err := a.accounts.RegistrationTokens(ctx, req.Valid)
	if err != nil {
		return nil, err
	}
	answer := &tokensAnswer{make([]*registrationToken, len(tokens))}
	for i, t := range tokens {
		answer.RegistrationTokens[i] = tokenAnswer(t)
	}
	return answer, nil
}

type newTokenRequest struct {
	Body struct {
		Token       string `json:"token"`
		UsesAllowed *int64 `json:"uses_allowed"`
		ExpiryTime  *int64 `json:"expiry_time"`
		Length      *int   `json:"length"`
	}
}

// newRegistrationToken is POST /_synapse/admin/v1/registration_tokens/new.
func (a *API) newRegistrationToken(ctx context.Context, _ *account.Caller, req *newTokenRequest) (*registrationToken, error) {
	body := &req.Body
	length := defaultTokenLength
	if body.Length != nil {
		length = *body.Length
	}
	t, err := a.accounts.NewRegistrationToken(ctx,
		storage.RegistrationToken{Token: body.Token, UsesAllowed: body.UsesAllowed, Expires: body.ExpiryTime}, length)
	if err != nil {
		return nil, err
	}
	return tokenAnswer(t), nil
}

type tokenRequest struct {
	Token string `path:"token"`
}

// registrationToken is GET /_synapse/admin/v1/registration_tokens/{token}.
func (a *API) registrationToken(ctx context.Context, _ *account.Caller, req *tokenRequest) (*registrationToken, error) {
	t, err := a.accounts.RegistrationToken(ctx, req.Token)
	if err != nil {
		return nil, err
	}
	return tokenAnswer(t), nil
}

// given is an integer or null, where leaving it out says something else.
type given struct {
	said  bool
	value *int64
}

// UnmarshalJSON is called only for what is there.
func (g *given) UnmarshalJSON(text []byte) error {
	g.said = true
	return json.Unmarshal(text, &g.value)
}

type updateTokenRequest struct {
	Token string `path:"token"`
	Body  struct {
		UsesAllowed given `json:"uses_allowed"`
		ExpiryTime  given `json:"expiry_time"`
	}
}

// updateRegistrationToken is PUT /_synapse/admin/v1/registration_tokens/{token}.
func (a *API) updateRegistrationToken(ctx context.Context, _ *account.Caller, req *updateTokenRequest) (*registrationToken, error) {
	t, err := a.accounts.UpdateRegistrationToken(ctx, req.Token, func(t *storage.RegistrationToken) {
		if req.Body.UsesAllowed.said {
			t.UsesAllowed = req.Body.UsesAllowed.value
		}
		if req.Body.ExpiryTime.said {
			t.Expires = req.Body.ExpiryTime.value
		}
	})
	if err != nil {
		return nil, err
	}
	return tokenAnswer(t), nil
}

// deleteRegistrationToken is DELETE /_synapse/admin/v1/registration_tokens/{token}.
func (a *API) deleteRegistrationToken(ctx context.Context, _ *account.Caller, req *tokenRequest) (*web.Empty, error) {
	return nil, a.accounts.DeleteRegistrationToken(ctx, req.Token)
}
