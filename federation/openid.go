package federation

import (
	"context"

	"beep/matrix"
	"beep/web"
)

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
	userID, err := a.Accounts.OpenIDUser(ctx, req.Token)
	return &openIDAnswer{userID}, err
}
