package clientapi

import (
	"context"
	"net/http"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

const (
	loginPassword   = "m.login.password"
	loginToken      = "m.login.token"
	loginAppservice = "m.login.application_service"
)

type loginFlow struct {
	Type          string `json:"type"`
	GetLoginToken bool   `json:"get_login_token,omitzero"`
}

type loginFlows struct {
	Flows []loginFlow `json:"flows"`
}

// loginFlows is GET /login.
func (a *API) loginFlows(context.Context, web.Nobody, *struct{}) (*loginFlows, error) {
	flows := []loginFlow{{Type: loginPassword}, {Type: loginToken, GetLoginToken: true}}
	if a.accounts.HasAppservices() {
		flows = append(flows, loginFlow{Type: loginAppservice})
	}
	return &loginFlows{flows}, nil
}

// bearer is who calls a route that takes an application service's token, and
// ignores any other.
type bearer struct {
	appservice *account.Appservice
	refused    error // why there is no application service
}

// Unlimited tells that rate limits do not hold for the caller.
func (b bearer) Unlimited() bool { return b.appservice != nil && !b.appservice.Limited }

func (a *API) appservice(r *http.Request) (bearer, error) {
	as, err := a.accounts.AppserviceOf(r)
	return bearer{as, err}, nil
}

// deviceBody is what login and registration say of the device.
type deviceBody struct {
	DeviceID                 string `json:"device_id"`
	InitialDeviceDisplayName string `json:"initial_device_display_name"`
	RefreshToken             bool   `json:"refresh_token"`
}

func (d *deviceBody) request() account.DeviceRequest {
	return account.DeviceRequest{DeviceID: d.DeviceID, DisplayName: d.InitialDeviceDisplayName, Refresh: d.RefreshToken}
}

type loginRequest struct {
	Body struct {
		Type       string              `json:"type"`
		Identifier *account.Identifier `json:"identifier"`
		User       string              `json:"user"`
		Password   string              `json:"password"`
		Token      string              `json:"token"`
		deviceBody
	}
}

// session is the answer of login and registration.
type session struct {
	UserID       string     `json:"user_id"`
	DeviceID     string     `json:"device_id,omitzero"`
	AccessToken  string     `json:"access_token,omitzero"`
	RefreshToken string     `json:"refresh_token,omitzero"`
	ExpiresInMS  int64      `json:"expires_in_ms,omitzero"`
	WellKnown    *wellKnown `json:"well_known,omitzero"`
}

type wellKnown struct {
	Homeserver struct {
		BaseURL string `json:"base_url"`
	} `json:"m.homeserver"`
}

func sessionAnswer(s *account.Session) *session {
	return &session{
		UserID:       s.UserID,
		DeviceID:     s.DeviceID,
		AccessToken:  s.AccessToken,
		RefreshToken: s.RefreshToken,
		ExpiresInMS:  s.ExpiresIn.Milliseconds(),
	}
}

// login is POST /login.
func (a *API) login(ctx context.Context, by bearer, req *loginRequest) (*session, error) {
	opened, err := a.openSession(ctx, by, req)
	if err != nil {
		return nil, err
	}
	answer := sessionAnswer(opened)
	if a.baseURL != "" {
		answer.WellKnown = new(wellKnown)
		answer.WellKnown.Homeserver.BaseURL = a.baseURL
	}
	return answer, nil
}

func (a *API) openSession(ctx context.Context, by bearer, req *loginRequest) (*account.Session, error) {
	body := &req.Body
	switch body.Type {
	case loginPassword:
		userID, err := a.accounts.CheckPassword(ctx, body.Identifier, body.User, body.Password)
		if err != nil {
			return nil, err
		}
		return a.accounts.OpenSession(ctx, userID, body.request())
	case loginToken:
		return a.accounts.LoginByToken(ctx, body.Token, body.request())
	case loginAppservice:
		if by.refused != nil {
			return nil, by.refused
		}
		return a.accounts.LoginByAppservice(ctx, by.appservice, body.Identifier, body.User, body.request())
	case "":
		return nil, matrix.MissingParam.With("The type of login is missing")
	}
	return nil, &matrix.Error{Status: http.StatusBadRequest, Code: "M_UNKNOWN", Message: "This type of login is not known"}
}

type authRequest struct {
	Body struct {
		Auth *account.AuthData `json:"auth"`
	}
}

type loginTokenAnswer struct {
	LoginToken  string `json:"login_token"`
	ExpiresInMS int64  `json:"expires_in_ms"`
}

// newLoginToken is POST /login/get_token.
func (a *API) newLoginToken(ctx context.Context, who *account.Caller, req *authRequest) (*loginTokenAnswer, error) {
	op := account.Operation{Name: "POST /login/get_token", UserID: who.UserID}
	if _, err := a.accounts.Interact(ctx, op, req.Body.Auth); err != nil {
		return nil, err
	}
	token, lifetime, err := a.accounts.NewLoginToken(ctx, who.UserID)
	return &loginTokenAnswer{token, lifetime.Milliseconds()}, err
}

type refreshRequest struct {
	Body struct {
		RefreshToken string `json:"refresh_token"`
	}
}

type refreshAnswer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresInMS  int64  `json:"expires_in_ms"`
}

// refresh is POST /refresh.
func (a *API) refresh(ctx context.Context, _ web.Nobody, req *refreshRequest) (*refreshAnswer, error) {
	if req.Body.RefreshToken == "" {
		return nil, matrix.MissingParam.With("The refresh_token is missing")
	}
	s, err := a.accounts.Refresh(ctx, req.Body.RefreshToken)
	if err != nil {
		return nil, err
	}
	return &refreshAnswer{s.AccessToken, s.RefreshToken, s.ExpiresIn.Milliseconds()}, nil
}

// emptyRequest is for bodies that say nothing.
type emptyRequest struct {
	Body struct{}
}

// logout is POST /logout.
func (a *API) logout(ctx context.Context, who *account.Caller, _ *emptyRequest) (*web.Empty, error) {
	return nil, a.accounts.Logout(ctx, who)
}

// logoutAll is POST /logout/all.
func (a *API) logoutAll(ctx context.Context, who *account.Caller, _ *emptyRequest) (*web.Empty, error) {
	return nil, a.accounts.LogoutAll(ctx, who)
}
