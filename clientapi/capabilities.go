package clientapi

import (
	"context"

	"beep/account"
	"beep/matrix"
)

type capabilitiesAnswer struct {
	Capabilities capabilities `json:"capabilities"`
}

// capabilities are what users of this server may do, by the specification's names.
type capabilities struct {
	ChangePassword  enabled      `json:"m.change_password"`
	RoomVersions    roomVersions `json:"m.room_versions"`
	ProfileFields   enabled      `json:"m.profile_fields"`
	SetDisplayName  enabled      `json:"m.set_displayname"`
	SetAvatarURL    enabled      `json:"m.set_avatar_url"`
	ThreepidChanges enabled      `json:"m.3pid_changes"`
	GetLoginToken   enabled      `json:"m.get_login_token"`
	ForgetOnLeave   enabled      `json:"m.forget_forced_upon_leave"`
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

type roomVersions struct {
	Default   matrix.RoomVersion            `json:"default"`
	Available map[matrix.RoomVersion]string `json:"available"`
}

// getCapabilities is GET /capabilities.
func (a *API) getCapabilities(context.Context, *account.Caller, *struct{}) (*capabilitiesAnswer, error) {
	yes := enabled{true}
	versions := roomVersions{Default: a.rooms.DefaultVersion(), Available: map[matrix.RoomVersion]string{}}
	for _, v := range matrix.RoomVersions() {
		versions.Available[v] = "stable"
	}
	return &capabilitiesAnswer{capabilities{
		ChangePassword: yes, RoomVersions: versions, ProfileFields: yes, SetDisplayName: yes, SetAvatarURL: yes, GetLoginToken: yes,
	}}, nil
}
