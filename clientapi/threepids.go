package clientapi

import (
	"context"
	"regexp"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

// This server knows nobody by mail address or telephone number, and sends neither
// mails nor messages to telephones. These are its answers to who asks for that.

type threepids struct {
	Threepids []struct{} `json:"threepids"`
}

// threepids is GET /account/3pid.
func (a *API) threepids(context.Context, *account.Caller, *struct{}) (*threepids, error) {
	return &threepids{[]struct{}{}}, nil
}

// addThreepid is POST /account/3pid, /account/3pid/add and /account/3pid/bind.
func (a *API) addThreepid(context.Context, *account.Caller, *emptyRequest) (*web.Empty, error) {
	return nil, matrix.ThreepidDenied
}

// deleteThreepid is POST /account/3pid/delete and /account/3pid/unbind.
func (a *API) deleteThreepid(context.Context, *account.Caller, *emptyRequest) (*unbindAnswer, error) {
	return &unbindAnswer{"no-support"}, nil
}

type validationRequest struct {
	Medium string `path:"medium"`
	Body   struct {
		ClientSecret string `json:"client_secret"`
	}
}

var clientSecret = regexp.MustCompile(`^[0-9a-zA-Z.=_-]{1,255}$`)

func (r *validationRequest) check() error {
	switch {
	case r.Medium != "email" && r.Medium != "msisdn":
		return matrix.Unrecognized
	case !clientSecret.MatchString(r.Body.ClientSecret):
		return matrix.InvalidParam.With("The client_secret is not valid")
	}
	return nil
}

// validateForAccount is POST /account/3pid/email/requestToken and …/msisdn/….
func (a *API) validateForAccount(_ context.Context, _ web.Nobody, req *validationRequest) (*web.Empty, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	return nil, matrix.ThreepidMediumDenied.With("This server keeps no mail addresses and no telephone numbers")
}

// validateForRegistration is POST /register/email/requestToken and …/msisdn/….
func (a *API) validateForRegistration(_ context.Context, _ web.Nobody, req *validationRequest) (*web.Empty, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	return nil, matrix.ThreepidDenied
}

// validateForPassword is POST /account/password/email/requestToken and …/msisdn/….
func (a *API) validateForPassword(_ context.Context, _ web.Nobody, req *validationRequest) (*web.Empty, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	return nil, matrix.ThreepidNotFound
}
