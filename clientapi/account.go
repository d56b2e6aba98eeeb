package clientapi

import (
	"context"
	"strconv"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

type whoami struct {
	UserID   string `json:"user_id"`
	DeviceID string `json:"device_id,omitzero"`
	IsGuest  bool   `json:"is_guest"`
}

// whoami is GET /account/whoami.
func (a *API) whoami(_ context.Context, who *account.Caller, _ *struct{}) (*whoami, error) {
	return &whoami{who.UserID, who.DeviceID, who.Guest}, nil
}

type passwordRequest struct {
	Body struct {
		NewPassword   string            `json:"new_password"`
		LogoutDevices *bool             `json:"logout_devices"`
		Auth          *account.AuthData `json:"auth"`
	}
}

// changePassword is POST /account/password. Without an access token the password
// that is given tells whose account it is.
func (a *API) changePassword(ctx context.Context, who *account.Caller, req *passwordRequest) (*web.Empty, error) {
	body := &req.Body
	if body.NewPassword == "" {
		return nil, matrix.MissingParam.With("The new_password is missing")
	}
	if err := a.accounts.CheckNewPassword(body.NewPassword); err != nil {
		return nil, err
	}
	op := account.Operation{Name: "POST /account/password", UserID: who.UserID}
	i, err := a.accounts.Interact(ctx, op, body.Auth)
	if err != nil {
		return nil, err
	}
	logout := body.LogoutDevices == nil || *body.LogoutDevices
	return nil, a.accounts.ChangePassword(ctx, i.UserID(), who.DeviceID, body.NewPassword, logout)
}

type deactivateRequest struct {
	Body struct {
		Auth  *account.AuthData `json:"auth"`
		Erase bool              `json:"erase"`
	}
}

type unbindAnswer struct {
	Result string `json:"id_server_unbind_result"`
}

// deactivate is POST /account/deactivate. There are no third-party identifiers
// that would have to be unbound.
func (a *API) deactivate(ctx context.Context, who *account.Caller, req *deactivateRequest) (*unbindAnswer, error) {
	op := account.Operation{Name: "POST /account/deactivate", UserID: who.UserID, Subject: strconv.FormatBool(req.Body.Erase)}
	i, err := a.accounts.Interact(ctx, op, req.Body.Auth)
	if err != nil {
		return nil, err
	}
	return &unbindAnswer{"success"}, a.accounts.Deactivate(ctx, i.UserID(), req.Body.Erase)
}

type openIDRequest struct {
	UserID string `path:"userID"`
	Body   struct{}
}

type openIDToken struct {
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type"`
	MatrixServerName string `json:"matrix_server_name"`
	ExpiresIn        int64  `json:"expires_in"` // s
}

// newOpenIDToken is POST /user/{userId}/openid/request_token.
func (a *API) newOpenIDToken(ctx context.Context, who *account.Caller, req *openIDRequest) (*openIDToken, error) {
	if req.UserID != who.UserID {
		return nil, matrix.Forbidden.With("A token can be had for oneself only")
	}
	token, lifetime, err := a.accounts.NewOpenIDToken(ctx, who.UserID)
	return &openIDToken{token, "Bearer", a.accounts.ServerName(), int64(lifetime.Seconds())}, err
}
