package federation

import (
	"context"
	"strconv"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

type eventRequest struct {
	EventID string `path:"eventID"`
}

// pdus is an answer in the form of a transaction.
type pdus struct {
	origin string
	events []*matrix.Event
}

// AppendJSON serves package web.
func (p *pdus) AppendJSON(dst []byte) []byte {
	dst = matrix.AppendString(append(dst, `{"origin":`...), p.origin)
	dst = strconv.AppendInt(append(dst, `,"origin_server_ts":`...), time.Now().UnixMilli(), 10)
	return append(appendEvents(append(dst, `,"pdus":`...), p.events), '}')
}

// event is GET /event/{eventId}.
func (a *API) event(ctx context.Context, who *Origin, req *eventRequest) (*pdus, error) {
	e, err := a.Serving.Event(ctx, who.Server, req.EventID)
	return a.pdus([]*matrix.Event{e}), err
}

func (a *API) pdus(events []*matrix.Event) *pdus { return &pdus{a.Signer.ServerName, events} }

type stateRequest struct {
	RoomID  string `path:"roomID"`
	EventID string `query:"event_id"`
}

// state is GET /state/{roomId}.
func (a *API) state(ctx context.Context, who *Origin, req *stateRequest) (*web.Raw, error) {
	state, err := a.stateBefore(ctx, who, req)
	if err != nil {
		return nil, err
	}
	return a.eventLists(ctx, eventList{"auth_chain", state.AuthChain}, eventList{"pdus", state.State}), nil
}

func (a *API) stateBefore(ctx context.Context, who *Origin, req *stateRequest) (*roomserver.StateBefore, error) {
	if req.EventID == "" {
		return nil, matrix.MissingParam.With("event_id is missing")
	}
	return a.Serving.StateBefore(ctx, who.Server, req.RoomID, req.EventID)
}

type stateIDsAnswer struct {
	AuthChain []string `json:"auth_chain_ids"`
	State     []string `json:"pdu_ids"`
}

// stateIDs is GET /state_ids/{roomId}.
func (a *API) stateIDs(ctx context.Context, who *Origin, req *stateRequest) (*stateIDsAnswer, error) {
	state, err := a.stateBefore(ctx, who, req)
	if err != nil {
		return nil, err
	}
	chain, err := a.Serving.IDs(ctx, state.AuthChain)
	if err != nil {
		return nil, err
	}
	ids, err := a.Serving.IDs(ctx, state.State)
	return &stateIDsAnswer{chain, ids}, err
}

type eventAuthRequest struct {
	RoomID  string `path:"roomID"`
	EventID string `path:"eventID"`
}

// eventAuth is GET /event_auth/{roomId}/{eventId}.
func (a *API) eventAuth(ctx context.Context, who *Origin, req *eventAuthRequest) (*web.Raw, error) {
	chain, err := a.Serving.AuthChain(ctx, who.Server, req.RoomID, req.EventID)
	if err != nil {
		return nil, err
	}
	return a.eventLists(ctx, eventList{"auth_chain", chain}), nil
}

type backfillRequest struct {
	RoomID string   `path:"roomID"`
	From   []string `query:"v"`
	Limit  *int     `query:"limit"`
}

// backfill is GET /backfill/{roomId}.
func (a *API) backfill(ctx context.Context, who *Origin, req *backfillRequest) (*pdus, error) {
	if len(req.From) == 0 || req.Limit == nil {
		return nil, matrix.MissingParam.With("v or limit is missing")
	}
	events, err := a.Serving.Backfill(ctx, who.Server, req.RoomID, req.From, *req.Limit)
	return a.pdus(events), err
}

type missingRequest struct {
	RoomID string `path:"roomID"`
	Body   struct {
		Earliest []string `json:"earliest_events"`
		Latest   []string `json:"latest_events"`
		Limit    *int     `json:"limit"`
		MinDepth int64    `json:"min_depth"`
	}
}

// missingAnswer has the events that are missing.
type missingAnswer []*matrix.Event

// AppendJSON serves package web.
func (m missingAnswer) AppendJSON(dst []byte) []byte {
	return append(appendEvents(append(dst, `{"events":`...), m), '}')
}

// missingEvents is POST /get_missing_events/{roomId}.
func (a *API) missingEvents(ctx context.Context, who *Origin, req *missingRequest) (*missingAnswer, error) {
	q := roomserver.MissingQuery{Earliest: req.Body.Earliest, Latest: req.Body.Latest, Limit: 10, MinDepth: req.Body.MinDepth}
	if req.Body.Limit != nil {
		q.Limit = *req.Body.Limit
	}
	events, err := a.Serving.MissingEvents(ctx, who.Server, req.RoomID, q)
	return (*missingAnswer)(&events), err
}

type timestampRequest struct {
	RoomID    string `path:"roomID"`
	TS        *int64 `query:"ts"`
	Direction string `query:"dir"`
}

type timestampAnswer struct {
	EventID        string `json:"event_id"`
	OriginServerTS int64  `json:"origin_server_ts"`
}

// timestampToEvent is GET /timestamp_to_event/{roomId}.
func (a *API) timestampToEvent(ctx context.Context, who *Origin, req *timestampRequest) (*timestampAnswer, error) {
	if req.TS == nil || req.Direction != "f" && req.Direction != "b" {
		return nil, matrix.InvalidParam.With("ts must be a time in milliseconds, and dir f or b")
	}
	e, err := a.Serving.EventAt(ctx, who.Server, req.RoomID, *req.TS, req.Direction == "f")
	if err != nil {
		return nil, err
	}
	return &timestampAnswer{e.ID, e.OriginServerTS}, nil
}
