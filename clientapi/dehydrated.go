package clientapi

import (
	"context"

	"beep/account"
	"beep/keys"
)

type dehydrateRequest struct {
	Body keys.Dehydration
}

type dehydratedID struct {
	DeviceID string `json:"device_id"`
}

// dehydrate is PUT /dehydrated_device.
func (a *API) dehydrate(ctx context.Context, who *account.Caller, req *dehydrateRequest) (*dehydratedID, error) {
	return &dehydratedID{req.Body.DeviceID}, a.keys.Dehydrate(ctx, who.UserID, &req.Body)
}

// dehydrated is GET /dehydrated_device.
func (a *API) dehydrated(ctx context.Context, who *account.Caller, _ *struct{}) (*keys.Dehydrated, error) {
	return a.keys.Dehydrated(ctx, who.UserID)
}

// removeDehydrated is DELETE /dehydrated_device.
func (a *API) removeDehydrated(ctx context.Context, who *account.Caller, _ *struct{}) (*dehydratedID, error) {
	id, err := a.keys.RemoveDehydrated(ctx, who.UserID)
	return &dehydratedID{id}, err
}

type dehydratedEventsRequest struct {
	DeviceID string `path:"deviceID"`
	From     string `query:"from"`
}

// dehydratedEvents is GET /dehydrated_device/{device_id}/events. The last page has no
// next_batch.
func (a *API) dehydratedEvents(ctx context.Context, who *account.Caller, req *dehydratedEventsRequest) (*keys.DehydratedEvents, error) {
	events, err := a.keys.DehydratedEvents(ctx, who.UserID, req.DeviceID, req.From)
	if err == nil && !events.More {
		events.NextBatch = ""
	}
	return events, err
}

type postDehydratedEventsRequest struct {
	DeviceID string `path:"deviceID"`
	Body     struct {
		NextBatch string `json:"next_batch"`
	}
}

// postDehydratedEvents is the same as clients asked before: there is a next_batch always, and
// a page without events is the last one.
func (a *API) postDehydratedEvents(ctx context.Context, who *account.Caller, req *postDehydratedEventsRequest) (*keys.DehydratedEvents, error) {
	return a.keys.DehydratedEvents(ctx, who.UserID, req.DeviceID, req.Body.NextBatch)
}
