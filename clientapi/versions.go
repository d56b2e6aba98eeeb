package clientapi

import (
	"context"

	"beep/matrix"
	"beep/web"
)

type versionsAnswer struct {
	Versions         []string        `json:"versions"`
	UnstableFeatures map[string]bool `json:"unstable_features"`
}

// versions is GET /versions. An unstable feature is listed as long as clients ask
// for it under that name.
func (a *API) versions(context.Context, web.Nobody, *struct{}) (*versionsAnswer, error) {
	return &versionsAnswer{
		Versions: matrix.SpecVersions(),
		UnstableFeatures: map[string]bool{
			"org.matrix.simplified_msc3575": true, // sliding sync
			"uk.tcpip.msc4133.stable":       true, // profile fields of any name
		},
	}, nil
}
