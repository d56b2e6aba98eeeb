package clientapi

import (
	"context"

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
		Versions: []string{"v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
			"v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19"},
		UnstableFeatures: map[string]bool{
			"uk.tcpip.msc4133.stable": true, // profile fields of any name
		},
	}, nil
}
