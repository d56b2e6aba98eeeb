package clientapi

import (
	"context"

	"beep/account"
	"beep/keys"
	"beep/matrix"
	"beep/web"
)

type uploadKeysRequest struct {
	Body keys.Upload
}

type keyCounts struct {
	OneTimeKeyCounts map[string]int64 `json:"one_time_key_counts"`
}

// uploadKeys is POST /keys/upload.
func (a *API) uploadKeys(ctx context.Context, who *account.Caller, req *uploadKeysRequest) (*keyCounts, error) {
	counts, err := a.keys.Upload(ctx, who.UserID, who.DeviceID, &req.Body)
	return &keyCounts{counts}, err
}

type queryKeysRequest struct {
	Body struct {
		DeviceKeys map[string][]string `json:"device_keys"`
		Timeout    *int64              `json:"timeout"` // ms
	}
}

// queryKeys is POST /keys/query.
func (a *API) queryKeys(ctx context.Context, who *account.Caller, req *queryKeysRequest) (*keys.Found, error) {
	if req.Body.DeviceKeys == nil {
		return nil, matrix.MissingParam.With("The device_keys are missing")
	}
	return a.keys.Query(ctx, who.UserID, req.Body.DeviceKeys, req.Body.Timeout)
}

type claimKeysRequest struct {
	Body struct {
		OneTimeKeys map[string]map[string]string `json:"one_time_keys"`
		Timeout     *int64                       `json:"timeout"` // ms
	}
}

// claimKeys is POST /keys/claim.
func (a *API) claimKeys(ctx context.Context, _ *account.Caller, req *claimKeysRequest) (*keys.Claimed, error) {
	if req.Body.OneTimeKeys == nil {
		return nil, matrix.MissingParam.With("The one_time_keys are missing")
	}
	return a.keys.Claim(ctx, req.Body.OneTimeKeys, req.Body.Timeout)
}

type sendToDeviceRequest struct {
	Type  string `path:"type"`
	TxnID string `path:"txnID"`
	Body  struct {
		Messages keys.Messages `json:"messages"`
	}
}

// sendToDevice is PUT /sendToDevice/{eventType}/{txnId}.
func (a *API) sendToDevice(ctx context.Context, who *account.Caller, req *sendToDeviceRequest) (*web.Empty, error) {
	if req.Body.Messages == nil {
		return nil, matrix.MissingParam.With("The messages are missing")
	}
	return nil, a.keys.SendToDevice(ctx, &keys.ToDevice{
		Sender: who.UserID, DeviceID: who.DeviceID, Type: req.Type, TxnID: req.TxnID, Messages: req.Body.Messages,
	})
}
