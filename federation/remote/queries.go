package remote

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/keys"
	"beep/matrix"
)

const (
	// maxList bounds lists of rooms, devices and keys, in bytes.
	maxList = 8 << 20
	// maxProfile bounds a profile, in bytes; the specification's limit is 64 KiB.
	maxProfile = 128 << 10
	// maxVersion bounds the names in the answer of /version, in bytes.
	maxVersion = 256
)

// ResolveAlias is GET /query/directory, asked of the alias's own server: the room that it
// points to, and servers that are likely to be in it.
func (c *Client) ResolveAlias(ctx context.Context, alias string) (roomID string, servers []string, err error) {
	var answer struct {
		RoomID  string   `json:"room_id"`
		Servers []string `json:"servers"`
	}
	server := matrix.ServerOf(alias)
	err = c.get(ctx, server, "/_matrix/federation/v1/query/directory"+query(url.Values{"room_alias": {alias}}), maxList, &answer)
	if err == nil && !matrix.ValidRoomID(answer.RoomID) {
		err = &AnswerError{server, errors.New("an alias without room_id")}
	}
	return answer.RoomID, validServers(answer.Servers), err
}

func (c *Client) get(ctx context.Context, server, target string, limit int64, answer any) error {
	return c.do(ctx, server, call{method: http.MethodGet, target: target, limit: limit, timeout: usualTimeout}, answer)
}

// QueryProfile is GET /query/profile, asked of the user's own server: the profile's
// fields, or the one that is named unless field is "". A field that is null is left out, and
// so is one that has not the form which the specification gives it.
func (c *Client) QueryProfile(ctx context.Context, userID, field string) (map[string]stdjson.RawMessage, error) {
	values := url.Values{"user_id": {userID}}
	if field != "" {
		values.Set("field", field)
	}
	fields := map[string]stdjson.RawMessage{}
	err := c.get(ctx, matrix.ServerOf(userID), "/_matrix/federation/v1/query/profile"+query(values), maxProfile, &fields)
	for name, value := range fields {
		if string(value) == "null" || field != "" && name != field || !profileForm(name, jsontext.Value(value)) {
			delete(fields, name)
		}
	}
	return fields, err
}

// profileForm tells whether a field of a profile is what clients take it for.
func profileForm(name string, value jsontext.Value) bool {
	switch name {
	case "displayname", "m.tz":
		return value.Kind() == '"'
	case "avatar_url":
		return strings.HasPrefix(text(value), "mxc://")
	}
	return true
}

// RoomSummary is a room as /publicRooms and /hierarchy tell of it.
type RoomSummary struct {
	RoomID         string               `json:"room_id"`
	Name           string               `json:"name"`
	Topic          string               `json:"topic"`
	CanonicalAlias string               `json:"canonical_alias"`
	AvatarURL      string               `json:"avatar_url"`
	JoinedMembers  int64                `json:"num_joined_members"`
	WorldReadable  bool                 `json:"world_readable"`
	GuestCanJoin   bool                 `json:"guest_can_join"`
	JoinRule       string               `json:"join_rule"` // "" stands for public
	RoomType       string               `json:"room_type"`
	AllowedRoomIDs []string             `json:"allowed_room_ids"`
	Encryption     string               `json:"encryption"`
	RoomVersion    string               `json:"room_version"`
	ChildrenState  []stdjson.RawMessage `json:"children_state"` // stripped m.space.child events with origin_server_ts
}

// summaries reads rooms one by one: what is no room is left out.
func summaries(values []jsontext.Value) []RoomSummary {
	rooms := []RoomSummary{}
	for _, value := range values {
		var room RoomSummary
		if json.Unmarshal(value, &room) == nil && matrix.ValidRoomID(room.RoomID) {
			rooms = append(rooms, room)
		}
	}
	return rooms
}

// PublicRoomsFilter says which of a server's public rooms are wanted.
type PublicRoomsFilter struct {
	Limit                int    // 0: as many as the server likes
	Since                string // a token of an earlier answer
	SearchTerm           string
	RoomTypes            []*string // nil: all; an element nil: rooms without type
	IncludeAllNetworks   bool
	ThirdPartyInstanceID string
}

// PublicRooms is a page of a server's directory.
type PublicRooms struct {
	Rooms     []RoomSummary
	NextBatch string
	PrevBatch string
	Total     int64 // an estimate; 0 if the server has none
}

// PublicRooms is GET /publicRooms, or POST if there is something to search for.
func (c *Client) PublicRooms(ctx context.Context, server string, filter *PublicRoomsFilter) (*PublicRooms, error) {
	r, err := filter.call()
	if err != nil {
		return nil, err
	}
	var answer struct {
		Chunk     []jsontext.Value `json:"chunk"`
		NextBatch string           `json:"next_batch"`
		PrevBatch string           `json:"prev_batch"`
		Total     int64            `json:"total_room_count_estimate"`
	}
	if err := c.do(ctx, server, r, &answer); err != nil {
		return nil, err
	}
	return &PublicRooms{summaries(answer.Chunk), answer.NextBatch, answer.PrevBatch, answer.Total}, nil
}

func (f *PublicRoomsFilter) call() (call, error) {
	r := call{method: http.MethodGet, target: "/_matrix/federation/v1/publicRooms", limit: maxList, timeout: usualTimeout}
	if f.SearchTerm == "" && f.RoomTypes == nil {
		values := url.Values{"include_all_networks": {strconv.FormatBool(f.IncludeAllNetworks)}}
		if f.Limit > 0 {
			values.Set("limit", strconv.Itoa(f.Limit))
		}
		if f.Since != "" {
			values.Set("since", f.Since)
		}
		if f.ThirdPartyInstanceID != "" {
			values.Set("third_party_instance_id", f.ThirdPartyInstanceID)
		}
		r.target += query(values)
		return r, nil
	}
	type searched struct {
		SearchTerm string    `json:"generic_search_term,omitzero"`
		RoomTypes  []*string `json:"room_types,omitzero"`
	}
	var err error
	r.method = http.MethodPost
	r.body, err = json.Marshal(struct {
		Limit                int      `json:"limit,omitzero"`
		Since                string   `json:"since,omitzero"`
		Filter               searched `json:"filter"`
		IncludeAllNetworks   bool     `json:"include_all_networks"`
		ThirdPartyInstanceID string   `json:"third_party_instance_id,omitzero"`
	}{f.Limit, f.Since, searched{f.SearchTerm, f.RoomTypes}, f.IncludeAllNetworks, f.ThirdPartyInstanceID})
	return r, err
}

// Hierarchy is a space with the rooms in it.
type Hierarchy struct {
	Room     RoomSummary
	Children []RoomSummary
	// Inaccessible are the children that this server could not join.
	Inaccessible []string
}

// Hierarchy is GET /hierarchy.
func (c *Client) Hierarchy(ctx context.Context, server, roomID string, suggestedOnly bool) (*Hierarchy, error) {
	var answer struct {
		Room         jsontext.Value   `json:"room"`
		Children     []jsontext.Value `json:"children"`
		Inaccessible []string         `json:"inaccessible_children"`
	}
	err := c.get(ctx, server, target("/_matrix/federation/v1/hierarchy", roomID)+
		query(url.Values{"suggested_only": {strconv.FormatBool(suggestedOnly)}}), maxList, &answer)
	if err != nil {
		return nil, err
	}
	rooms := summaries([]jsontext.Value{answer.Room})
	if len(rooms) == 0 || rooms[0].RoomID != roomID {
		return nil, &AnswerError{server, errors.New("a hierarchy of another room")}
	}
	return &Hierarchy{rooms[0], summaries(answer.Children), answer.Inaccessible}, nil
}

// What servers tell each other of devices and keys.
type (
	UserDevices = keys.UserDevices
	UserDevice  = keys.UserDevice
	UserKeys    = keys.UserKeys
)

// UserDevices is GET /user/devices, asked of the user's own server.
func (c *Client) UserDevices(ctx context.Context, userID string) (*UserDevices, error) {
	var answer UserDevices
	server := matrix.ServerOf(userID)
	err := c.get(ctx, server, target("/_matrix/federation/v1/user/devices", userID), maxList, &answer)
	if err == nil && answer.UserID != userID {
		err = &AnswerError{server, errors.New("devices of another user")}
	}
	answer.MasterKey, answer.SelfSigningKey = objectOrNil(answer.MasterKey), objectOrNil(answer.SelfSigningKey)
	for i := range answer.Devices {
		answer.Devices[i].Keys = objectOrNil(answer.Devices[i].Keys)
	}
	return &answer, err
}

// ClaimKeys is POST /user/keys/claim. wanted has the algorithm by user and device, all of
// that server; the answer has keys by user, device, and algorithm with key id. What was
// not asked for is left out.
func (c *Client) ClaimKeys(ctx context.Context, server string, wanted map[string]map[string]string) (map[string]map[string]map[string]stdjson.RawMessage, error) {
	var answer struct {
		Keys map[string]map[string]map[string]stdjson.RawMessage `json:"one_time_keys"`
	}
	err := c.post(ctx, server, "/_matrix/federation/v1/user/keys/claim", map[string]any{"one_time_keys": wanted}, &answer)
	for userID, devices := range answer.Keys {
		for deviceID := range devices {
			if _, ok := wanted[userID][deviceID]; !ok {
				delete(devices, deviceID)
			}
		}
		if len(devices) == 0 {
			delete(answer.Keys, userID)
		}
	}
	return answer.Keys, err
}

func (c *Client) post(ctx context.Context, server, target string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.do(ctx, server, call{method: http.MethodPost, target: target, body: body, limit: maxList, timeout: usualTimeout}, answer)
}

// QueryKeys is POST /user/keys/query. wanted has lists of devices by user, all of that
// server; an empty list stands for all devices. Users who were not asked for are left out.
func (c *Client) QueryKeys(ctx context.Context, server string, wanted map[string][]string) (*UserKeys, error) {
	var answer UserKeys
	err := c.post(ctx, server, "/_matrix/federation/v1/user/keys/query", map[string]any{"device_keys": wanted}, &answer)
	onlyWanted(answer.DeviceKeys, wanted)
	onlyWanted(answer.MasterKeys, wanted)
	onlyWanted(answer.SelfSigningKeys, wanted)
	return &answer, err
}

func onlyWanted[V any](answer map[string]V, wanted map[string][]string) {
	for userID := range answer {
		if _, ok := wanted[userID]; !ok {
			delete(answer, userID)
		}
	}
}

// OpenIDUser is GET /openid/userinfo: whose a token of that server is. It is a user of
// that server.
func (c *Client) OpenIDUser(ctx context.Context, server, token string) (string, error) {
	var answer struct {
		Sub string `json:"sub"`
	}
	err := c.do(ctx, server, call{
		method: http.MethodGet, target: "/_matrix/federation/v1/openid/userinfo" + query(url.Values{"access_token": {token}}),
		unsigned: true, limit: maxSmall, timeout: usualTimeout,
	}, &answer)
	if err == nil && (!matrix.ValidUserID(answer.Sub) || matrix.ServerOf(answer.Sub) != server) {
		err = &AnswerError{server, errors.New("a token of another server's user")}
	}
	if err != nil {
		return "", err
	}
	return answer.Sub, nil
}

// Version is GET /version: the name and the version of the server's program.
func (c *Client) Version(ctx context.Context, server string) (name, version string, err error) {
	var answer struct {
		Server struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"server"`
	}
	err = c.do(ctx, server, call{
		method: http.MethodGet, target: "/_matrix/federation/v1/version",
		unsigned: true, limit: maxSmall, timeout: usualTimeout,
	}, &answer)
	return cut(answer.Server.Name, maxVersion), cut(answer.Server.Version, maxVersion), err
}
