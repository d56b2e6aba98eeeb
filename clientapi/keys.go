package clientapi

import (
	"context"
	"errors"

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

type crossSigningRequest struct {
	Body struct {
		keys.CrossSigning `json:",inline"`
		Auth              *account.AuthData `json:"auth"`
	}
}

// uploadCrossSigning is POST /keys/device_signing/upload. Whoever replaces keys has to give
// the password; an application service has none to give.
func (a *API) uploadCrossSigning(ctx context.Context, who *account.Caller, req *crossSigningRequest) (*web.Empty, error) {
	given := &req.Body.CrossSigning
	err := a.keys.SetCrossSigning(ctx, who.UserID, given, who.Appservice != nil)
	if !errors.Is(err, keys.ErrAuthRequired) {
		return nil, err
	}
	subject := digest([]string{string(given.MasterKey), string(given.SelfSigningKey), string(given.UserSigningKey)})
	op := account.Operation{Name: "POST /keys/device_signing/upload", UserID: who.UserID, Subject: subject}
	if _, err := a.accounts.Interact(ctx, op, req.Body.Auth); err != nil {
		return nil, err
	}
	return nil, a.keys.SetCrossSigning(ctx, who.UserID, given, true)
}

type signaturesRequest struct {
	Body keys.Signatures
}

// uploadSignatures is POST /keys/signatures/upload.
func (a *API) uploadSignatures(ctx context.Context, who *account.Caller, req *signaturesRequest) (*keys.Failures, error) {
	return a.keys.AddSignatures(ctx, who.UserID, req.Body)
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
