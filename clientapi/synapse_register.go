package clientapi

import (
	"context"

	"beep/account"
	"beep/web"
)

type nonceAnswer struct {
	Nonce string `json:"nonce"`
}

// registrationNonce is GET /_synapse/admin/v1/register.
func (a *API) registrationNonce(context.Context, web.Nobody, *struct{}) (*nonceAnswer, error) {
	nonce, err := a.accounts.NewNonce()
	return &nonceAnswer{nonce}, err
}

type secretRegisterRequest struct {
	Body struct {
		Nonce        string `json:"nonce"`
		Username     string `json:"username"`
		Password     string `json:"password"`
		DisplayName  string `json:"displayname"`
		Admin        bool   `json:"admin"`
		UserType     string `json:"user_type"`
		MAC          string `json:"mac"`
		InhibitLogin bool   `json:"inhibit_login"`
	}
}

// registerBySecret is POST /_synapse/admin/v1/register.
func (a *API) registerBySecret(ctx context.Context, _ web.Nobody, req *secretRegisterRequest) (*session, error) {
	s, err := a.accounts.RegisterBySecret(ctx, account.SecretRegistration(req.Body))
	if err != nil {
		return nil, err
	}
	return sessionAnswer(s), nil
}
