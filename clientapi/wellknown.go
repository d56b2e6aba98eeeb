package clientapi

import (
	"context"
	"maps"

	"beep/config"
	"beep/matrix"
	"beep/web"
)

// wellKnownClient is GET /.well-known/matrix/client.
func (a *API) wellKnownClient(context.Context, web.Nobody, *struct{}) (*map[string]any, error) {
	if a.baseURL == "" {
		return nil, matrix.NotFound.With("This server does not say where clients reach it")
	}
	answer := map[string]any{}
	maps.Copy(answer, a.wellKnown.Client)
	answer["m.homeserver"] = map[string]string{"base_url": a.baseURL}
	return &answer, nil
}

type wellKnownServer struct {
	Server string `json:"m.server"`
}

// wellKnownServer is GET /.well-known/matrix/server.
func (a *API) wellKnownServer(context.Context, web.Nobody, *struct{}) (*wellKnownServer, error) {
	if a.wellKnown.Server == "" {
		return nil, matrix.NotFound.With("This server does not say where servers reach it")
	}
	return &wellKnownServer{a.wellKnown.Server}, nil
}

type wellKnownSupport struct {
	Contacts    []config.Contact `json:"contacts,omitempty"`
	SupportPage string           `json:"support_page,omitempty"`
}

// wellKnownSupport is GET /.well-known/matrix/support.
func (a *API) wellKnownSupport(context.Context, web.Nobody, *struct{}) (*wellKnownSupport, error) {
	support := &a.wellKnown.Support
	if len(support.Contacts) == 0 && support.Page == "" {
		return nil, matrix.NotFound.With("This server does not say who answers for it")
	}
	return &wellKnownSupport{support.Contacts, support.Page}, nil
}
