// Package federation is the server-server API.
package federation

import (
	"context"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

// API has the handlers.
type API struct {
	accounts *account.Accounts
}

// New is the API over the accounts.
func New(accounts *account.Accounts) *API { return &API{accounts: accounts} }

// Routes registers all routes of the API.
func (a *API) Routes(rt *web.Router) {
	web.GET(rt, "/_matrix/federation/v1/openid/userinfo", web.Anyone, a.openIDUser, web.Limit("other"))
}

type openIDRequest struct {
	Token string `query:"access_token"`
}

type openIDAnswer struct {
	Sub string `json:"sub"`
}

// openIDUser is GET /openid/userinfo: whose an OpenID token is.
func (a *API) openIDUser(ctx context.Context, _ web.Nobody, req *openIDRequest) (*openIDAnswer, error) {
	if req.Token == "" {
		return nil, matrix.MissingToken
	}
	userID, err := a.accounts.OpenIDUser(ctx, req.Token)
	return &openIDAnswer{userID}, err
}
