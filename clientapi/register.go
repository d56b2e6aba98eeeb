package clientapi

import (
	"context"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

type registerRequest struct {
	Kind string `query:"kind"`
	Body struct {
		Auth             *account.AuthData `json:"auth"`
		Type             string            `json:"type"`
		Username         string            `json:"username"`
		Password         string            `json:"password"`
		InhibitLogin     bool              `json:"inhibit_login"`
		GuestAccessToken string            `json:"guest_access_token"`
		deviceBody
	}
}

// register is POST /register.
func (a *API) register(ctx context.Context, by bearer, req *registerRequest) (*session, error) {
	opened, err := a.newAccount(ctx, by, req)
	if err != nil {
		return nil, err
	}
	return sessionAnswer(opened), nil
}

func (a *API) newAccount(ctx context.Context, by bearer, req *registerRequest) (*account.Session, error) {
	body := &req.Body
	wanted := account.NewAccount{
		Username:     body.Username,
		Password:     body.Password,
		Device:       body.request(),
		InhibitLogin: body.InhibitLogin,
		GuestToken:   body.GuestAccessToken,
	}
	switch {
	case body.Type == loginAppservice:
		if by.refused != nil {
			return nil, by.refused
		}
		return a.accounts.RegisterByAppservice(ctx, by.appservice, wanted)
	case req.Kind == "guest":
		return a.accounts.RegisterGuest(ctx, body.InitialDeviceDisplayName)
	case req.Kind == "" || req.Kind == "user":
		return a.accounts.Register(ctx, wanted, body.Auth)
	}
	return nil, matrix.InvalidParam.With("kind must be user or guest")
}

type usernameRequest struct {
	Username *string `query:"username"`
}

type usernameAnswer struct {
	Available bool `json:"available"`
}

// usernameAvailable is GET /register/available.
func (a *API) usernameAvailable(ctx context.Context, _ web.Nobody, req *usernameRequest) (*usernameAnswer, error) {
	if req.Username == nil {
		return nil, matrix.MissingParam.With("The username is missing")
	}
	return &usernameAnswer{true}, a.accounts.Available(ctx, *req.Username)
}

type tokenValidityRequest struct {
	Token *string `query:"token"`
}

type tokenValidity struct {
	Valid bool `json:"valid"`
}

// registrationTokenValidity is GET /register/m.login.registration_token/validity.
func (a *API) registrationTokenValidity(ctx context.Context, _ web.Nobody, req *tokenValidityRequest) (*tokenValidity, error) {
	if req.Token == nil {
		return nil, matrix.MissingParam.With("The token is missing")
	}
	valid, err := a.accounts.RegistrationTokenValid(ctx, *req.Token)
	return &tokenValidity{valid}, err
}
