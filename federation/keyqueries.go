package federation

import (
	"context"

	"beep/keys"
	"beep/matrix"
)

type devicesRequest struct {
	UserID string `path:"userID"`
}

// userDevices is GET /user/devices/{userId}.
func (a *API) userDevices(ctx context.Context, _ *Origin, req *devicesRequest) (*keys.UserDevices, error) {
	return a.UserKeys.ServeDevices(ctx, req.UserID)
}

type queryUserKeysRequest struct {
	Body struct {
		DeviceKeys map[string][]string `json:"device_keys"`
	}
}

// queryUserKeys is POST /user/keys/query.
func (a *API) queryUserKeys(ctx context.Context, _ *Origin, req *queryUserKeysRequest) (*keys.ServedKeys, error) {
	if req.Body.DeviceKeys == nil {
		return nil, matrix.MissingParam.With("The device_keys are missing")
	}
	return a.UserKeys.ServeQuery(ctx, req.Body.DeviceKeys)
}

type claimUserKeysRequest struct {
	Body struct {
		OneTimeKeys map[string]map[string]string `json:"one_time_keys"`
	}
}

// claimUserKeys is POST /user/keys/claim.
func (a *API) claimUserKeys(ctx context.Context, _ *Origin, req *claimUserKeysRequest) (*keys.ServedClaims, error) {
	if req.Body.OneTimeKeys == nil {
		return nil, matrix.MissingParam.With("The one_time_keys are missing")
	}
	return a.UserKeys.ServeClaim(ctx, req.Body.OneTimeKeys)
}
