package federation

import (
	"context"
	"encoding/json"

	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

// thirdPartyRoutes are the routes for invites of people by their addresses.
func (a *API) thirdPartyRoutes(rt *web.Router) {
	// The server-server API has it as PUT, the identity service API as POST.
	web.PUT(rt, "/_matrix/federation/v1/3pid/onbind", web.Anyone, a.onBind, web.Limit("other"))
	web.POST(rt, "/_matrix/federation/v1/3pid/onbind", web.Anyone, a.onBind, web.Limit("other"))
	if a.Keys != nil {
		web.PUT(rt, "/_matrix/federation/v1/exchange_third_party_invite/{roomID}", a.origin, a.exchangeInvite, web.Limit(limit))
	}
}

// maxBound bounds the invites that a user gets by an address at once: each may be another
// server's.
const maxBound = 50

type bindRequest struct {
	Body struct {
		UserID  string `json:"mxid"`
		Invites []struct {
			UserID string          `json:"mxid"`
			RoomID string          `json:"room_id"`
			Sender string          `json:"sender"`
			Signed json.RawMessage `json:"signed"`
		} `json:"invites"`
	}
}

// onBind is PUT /3pid/onbind.
func (a *API) onBind(ctx context.Context, _ web.Nobody, req *bindRequest) (*web.Empty, error) {
	if len(req.Body.Invites) > maxBound {
		return nil, matrix.TooLarge.Withf("Tell of at most %d invites at once", maxBound)
	}
	b := &roomserver.Binding{UserID: req.Body.UserID}
	for _, i := range req.Body.Invites {
		b.Invites = append(b.Invites, roomserver.BoundInvite{UserID: i.UserID, RoomID: i.RoomID, Sender: i.Sender, Signed: i.Signed})
	}
	return nil, a.Rooms.Bound(ctx, b)
}

type exchangeRequest struct {
	RoomID string `path:"roomID"`
	Body   json.RawMessage
}

// exchangeInvite is PUT /exchange_third_party_invite/{roomId}.
func (a *API) exchangeInvite(ctx context.Context, who *Origin, req *exchangeRequest) (*web.Empty, error) {
	if err := a.Serving.Admit(ctx, who.Server, req.RoomID); err != nil {
		return nil, err
	}
	return nil, a.Rooms.Exchange(ctx, who.Server, req.RoomID, req.Body)
}
