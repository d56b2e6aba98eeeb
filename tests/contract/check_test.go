package contract

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const client = "/_matrix/client/v3"

// exchange is answered with JSON.
func exchange(t testing.TB, request string, sent string, status int, answer string) *Exchange {
	t.Helper()
	method, uri, _ := strings.Cut(request, " ")
	u, err := url.Parse("http://example.org" + uri)
	if err != nil {
		t.Fatal(err)
	}
	return &Exchange{
		Method: method, URL: u, RequestHeader: http.Header{}, RequestBody: []byte(sent), Status: status,
		ResponseHeader: http.Header{"Content-Type": {"application/json"}}, ResponseBody: []byte(answer),
	}
}

// faults are the lines of the faults found, without the schemas.
func faults(s *Spec, x *Exchange) []string {
	var lines []string
	for _, f := range s.Check(x) {
		f.Schema = ""
		lines = append(lines, f.String())
	}
	return lines
}

const (
	event  = `{"event_id":"$e","type":"m.room.message","sender":"@a:b","origin_server_ts":1,"room_id":"!r:b","content":{"msgtype":"m.text","body":"hi"}}`
	denied = `{"errcode":"M_FORBIDDEN","error":"no"}`
	flows  = `{"flows":[{"stages":["m.login.dummy"]}],"params":{},"session":"s"}`
	pduV12 = `{"type":"m.room.name","sender":"@a:b","room_id":"!r","content":{"name":"n"},"depth":2,"origin_server_ts":1,"hashes":{"sha256":"aa"},"signatures":{"b":{"ed25519:1":"c"}},"auth_events":["$a"],"prev_events":["$p"],"state_key":""}`
)

var cases = []struct {
	name    string
	request string
	sent    string
	status  int
	answer  string
	change  func(*Exchange)
	want    []string
}{
	// bodies of answers
	{name: "sync", request: "GET " + client + "/sync?timeout=0&since=s1&set_presence=offline", status: 200,
		answer: `{"next_batch":"s2","rooms":{"join":{"!r:b":{"timeline":{"events":[` + event[:len(event)-1] + `,"unsigned":{"age":1,"transaction_id":"t"}}]}}}}}`,
		want:   []string{"response 200 at /rooms/join/!r:b/timeline/events/0/room_id: is not declared"}},
	{name: "null for a list", request: "GET " + client + "/keys/changes?from=s1&to=s2", status: 200,
		answer: `{"changed":[],"left":null}`, want: []string{"response 200 at /left: got null, want array"}},
	{name: "missing key", request: "POST " + client + "/createRoom", sent: `{}`, status: 200,
		answer: `{}`, want: []string{"response 200 at /room_id: is missing"}},
	{name: "misspelt key", request: "GET " + client + "/sync", status: 200, answer: `{"next_batch":"s2","rooms":{"joined":{}}}`,
		want: []string{"response 200 at /rooms/joined: is not declared"}},
	{name: "unstable key", request: "GET " + client + "/sync", status: 200,
		answer: `{"next_batch":"s2","rooms":{"join":{"!r:b":{"org.matrix.msc4222.state_after":{"events":[]}}}}}`},
	{name: "empty URI", request: "GET " + client + "/rooms/!r:b/joined_members", status: 200,
		answer: `{"joined":{"@a:b":{"display_name":"a","avatar_url":""}}}`,
		want:   []string{"response 200 at /joined/@a:b/avatar_url: '' is not valid mx-mxc-uri: not mxc://server/media-id"}},
	{name: "key given twice", request: "POST " + client + "/createRoom", sent: `{}`, status: 200, answer: `{"room_id":"!a:b","room_id":"!a:b"}`,
		want: []string{`response 200: jsontext: duplicate object member name "room_id"`}},
	{name: "not UTF-8", request: "POST " + client + "/createRoom", sent: `{}`, status: 200, answer: "{\"room_id\":\"!a\xff:b\"}",
		want: []string{`response 200: jsontext: invalid UTF-8 within "/room_id" after offset 14`}},
	{name: "two values", request: "POST " + client + "/createRoom", sent: `{}`, status: 200, answer: `{"room_id":"!a:b"}{}`,
		want: []string{"response 200: more than one JSON value"}},
	{name: "fraction for an integer", request: "GET " + client + "/rooms/!r:b/event/$e", status: 200,
		answer: strings.Replace(event, `_ts":1`, `_ts":9007199254740993.5`, 1),
		want:   []string{"response 200 at /origin_server_ts: got number, want integer"}},
	{name: "more than float64 holds", request: "GET " + client + "/rooms/!r:b/event/$e", status: 200,
		answer: strings.Replace(event, `_ts":1`, `_ts":9007199254740993`, 1)},

	// events
	{name: "event content", request: "GET " + client + "/rooms/!r:b/event/$e", status: 200, answer: strings.Replace(event, `"body":"hi"`, `"body":1`, 1),
		want: []string{"response 200 at /content/body: got number, want string"}},
	{name: "junk on purpose", request: "GET " + client + "/rooms/!r:b/event/$e", status: 200, answer: strings.Replace(event, `"body":"hi"`, `"body":1`, 1),
		change: func(x *Exchange) { x.LaxEvents = true }},
	{name: "redacted event", request: "GET " + client + "/rooms/!r:b/event/$e", status: 200,
		answer: strings.Replace(event, `{"msgtype":"m.text","body":"hi"}`, `{}`, 1)},
	{name: "state content", request: "GET " + client + "/rooms/!r:b/state/m.room.name/", status: 200, answer: `{"name":"n","extra":1}`},
	{name: "state content of its type", request: "GET " + client + "/rooms/!r:b/state/m.room.topic", status: 200, answer: `{"name":"n"}`,
		want: []string{"response 200 at /topic: is missing"}},
	{name: "state event", request: "GET " + client + "/rooms/!r:b/state/m.room.name/?format=event", status: 200, answer: `{"name":"n"}`,
		want: []string{
			"response 200 at /content: is missing", "response 200 at /event_id: is missing", "response 200 at /name: is not declared",
			"response 200 at /origin_server_ts: is missing", "response 200 at /room_id: is missing", "response 200 at /sender: is missing",
			"response 200 at /state_key: is missing", "response 200 at /type: is missing",
		}},
	{name: "account data of its type", request: "GET " + client + "/user/@a:b/account_data/m.direct", status: 200, answer: `{"@c:d":"!r:b"}`,
		want: []string{"response 200 at /@c:d: got string, want array"}},
	{name: "EDU", request: "PUT /_matrix/federation/v1/send/t", sent: `{"origin":"b","origin_server_ts":1,"pdus":[],"edus":[{"edu_type":"m.typing","content":{"room_id":"!r:b"}}]}`,
		status: 200, answer: `{"pdus":{}}`,
		want: []string{"request at /edus/0/content/typing: is missing", "request at /edus/0/content/user_id: is missing"}},
	{name: "PDU", request: "PUT /_matrix/federation/v1/send/t", sent: `{"origin":"b","origin_server_ts":1,"pdus":[` + pduV12 + `]}`, status: 200, answer: `{"pdus":{}}`},
	{name: "PDU without hashes", request: "PUT /_matrix/federation/v1/send/t", status: 200, answer: `{"pdus":{}}`,
		sent: `{"origin":"b","origin_server_ts":1,"pdus":[` + strings.Replace(pduV12, `"hashes":{"sha256":"aa"},`, "", 1) + `]}`,
		want: []string{"request at /pdus/0/hashes: is missing"}},
	{name: "create event without room", request: "GET /_matrix/federation/v1/event/$c", status: 200,
		answer: `{"origin":"b","origin_server_ts":1,"pdus":[` + strings.NewReplacer(`"room_id":"!r",`, "", "m.room.name", "m.room.create").Replace(pduV12) + `]}`},

	// status, type, headers
	{name: "status not listed", request: "POST " + client + "/createRoom", sent: `{}`, status: 201, answer: `{"room_id":"!a:b"}`,
		want: []string{"response 201: the operation answers only [200 400 403]"}},
	{name: "error not listed", request: "POST " + client + "/createRoom", sent: `{}`, status: 403, answer: denied},
	{name: "error without code", request: "POST " + client + "/createRoom", sent: `{}`, status: 500, answer: `{"error":"no"}`,
		want: []string{"response 500 at /errcode: is missing"}},
	{name: "error listed without content", request: "GET " + client + "/rooms/!r:b/members", status: 403, answer: `{}`,
		want: []string{"response 403 at /errcode: is missing"}},
	{name: "rate limit", request: "POST " + client + "/createRoom", sent: `{}`, status: 429, answer: `{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":5}`},
	{name: "authentication stages", request: "POST " + client + "/register", sent: `{}`, status: 401, answer: flows},
	{name: "authentication stages where not listed", request: "POST " + client + "/keys/device_signing/upload", sent: `{}`, status: 401, answer: flows},
	{name: "authentication stages of the wrong form", request: "POST " + client + "/register", sent: `{}`, status: 401, answer: `{"flows":{}}`,
		want: []string{"response 401 at /flows: got object, want array"}},
	{name: "no access token", request: "POST " + client + "/delete_devices", sent: `{}`, status: 401, answer: `{"errcode":"M_MISSING_TOKEN","error":"no"}`},
	{name: "JSON by another name", request: "POST " + client + "/createRoom", sent: `{}`, status: 200, answer: `{"room_id":"!a:b"}`,
		change: header("Content-Type", "text/plain"), want: []string{`response 200: got "text/plain", want application/json`}},
	{name: "charset", request: "POST " + client + "/createRoom", sent: `{}`, status: 200, answer: `{"room_id":"!a:b"}`,
		change: header("Content-Type", "application/json; charset=latin1"), want: []string{`response 200: got "application/json; charset=latin1", JSON is UTF-8`}},
	{name: "media", request: "GET /_matrix/client/v1/media/download/b/m", status: 200, answer: "GIF89a",
		change: header("Content-Type", "image/gif"), want: []string{"response 200 header at Content-Disposition: is missing"}},
	{name: "thumbnail type", request: "GET /_matrix/client/v1/media/thumbnail/b/m?width=1&height=1", status: 200, answer: "II",
		change: func(x *Exchange) {
			x.ResponseHeader = http.Header{"Content-Type": {"image/tiff"}, "Content-Disposition": {"inline"}}
		},
		want: []string{`response 200: got "image/tiff", want image/apng, image/gif, image/jpeg, image/png, image/webp`}},
	{name: "redirect", request: "GET " + client + "/login/sso/redirect?redirectUrl=http://c", status: 302, change: header("Location", "http://d")},
	{name: "no well-known file", request: "GET /.well-known/matrix/client", status: 404, answer: "not found", change: header("Content-Type", "text/plain")},

	// paths
	{name: "slash in a segment", request: "GET " + client + "/rooms/!r:b/state/a%2Fb/c%2Fd", status: 404, answer: `{"errcode":"M_NOT_FOUND"}`},
	{name: "two files, the second", request: "GET " + client + "/events?from=s1&room_id=!r:b", status: 200, answer: `{"start":"a","end":"b","chunk":[` + event + `]}`},
	{name: "two files, the second invite", request: "POST " + client + "/rooms/!r:b/invite", status: 200, answer: `{}`,
		sent: `{"id_server":"c","id_access_token":"t","medium":"email","address":"a@b.c"}`},
	{name: "old path", request: "GET /_matrix/client/r0/keys/changes?from=s1&to=s2", status: 200, answer: `{"left":null}`,
		want: []string{"response 200 at /left: got null, want array"}},
	{name: "old key path", request: "GET /_matrix/key/v2/server/ed25519:1", status: 200, answer: `{}`,
		want: []string{"response 200 at /server_name: is missing", "response 200 at /signatures: is missing",
			"response 200 at /valid_until_ts: is missing", "response 200 at /verify_keys: is missing"}},
	{name: "head", request: "HEAD " + client + "/account/whoami", status: 200, change: header("Content-Type", "")},
	{name: "options", request: "OPTIONS " + client + "/sync", status: 204, change: header("Content-Type", "")},
	{name: "unknown path served", request: "GET /_matrix/client/v3/sink", status: 200, answer: `{}`,
		want: []string{"request path: is not in the specification, and was not answered with 404 or 405 M_UNRECOGNIZED"}},
	{name: "unknown path refused", request: "GET /_matrix/client/v3/sink", status: 404, answer: `{"errcode":"M_UNRECOGNIZED","error":"?"}`},
	{name: "unknown method refused", request: "DELETE /_matrix/client/v3/sync", status: 405, answer: `{"errcode":"M_UNRECOGNIZED","error":"?"}`},
	{name: "empty segment", request: "GET " + client + "/rooms//members", status: 200, answer: `{"chunk":[]}`,
		want: []string{"request path: is not in the specification, and was not answered with 404 or 405 M_UNRECOGNIZED"}},
	{name: "fallback page", request: "GET " + client + "/auth/m.login.terms/fallback/web?session=s", status: 200, answer: "<html>", change: header("Content-Type", "text/html")},
	{name: "unstable path", request: "GET /_matrix/client/unstable/org.matrix.msc1/x", status: 400, answer: `{"code":1}`,
		want: []string{"response 400 at /code: is not declared", "response 400 at /errcode: is missing"}},
	{name: "authentication stages of an unstable path", request: "POST /_matrix/client/unstable/org.matrix.msc1/x", status: 401, answer: flows},
	{name: "sliding sync", request: "POST " + slidingSync, status: 200,
		answer: `{"pos":"s1","lists":{},"rooms":{"!r:b":{"membership":"join","bump_stamp":1,"timeline":[` + event[:len(event)-1] + `}],"num_live":0,"prev_batch":"t","limited":false,"name":5}},"extensions":{"e2e":{}}}`,
		want: []string{"response 200 at /extensions/e2e: is not declared", "response 200 at /rooms/!r:b/name: got number, want null or string",
			"response 200 at /rooms/!r:b/timeline/0/room_id: is not declared"}},
	{name: "administration", request: "GET /_synapse/admin/v1/register", status: 200, answer: `{"nonce":"n"}`},
	{name: "allowed here", request: "GET /preview.html", status: 200, answer: "<html>", change: func(x *Exchange) { x.Allow = []string{"/preview"} }},

	// requests
	{name: "parameter type", request: "GET " + client + "/sync?timeout=x", status: 200, answer: `{"next_batch":"s2"}`,
		want: []string{"request query at timeout: got string, want integer"}},
	{name: "parameter type refused", request: "GET " + client + "/sync?timeout=x", status: 400, answer: `{"errcode":"M_INVALID_PARAM"}`},
	{name: "parameter value", request: "GET " + client + "/sync?set_presence=away&full_state=true", status: 200, answer: `{"next_batch":"s2"}`,
		want: []string{"request query at set_presence: value must be one of 'offline', 'online', 'unavailable'"}},
	{name: "parameter unknown", request: "GET " + client + "/sync?tiemout=1&access_token=t&org.matrix.msc4222.use_state_after=true", status: 200, answer: `{"next_batch":"s2"}`,
		want: []string{"request query at tiemout: is not declared"}},
	{name: "parameter twice", request: "GET " + client + "/sync?since=a&since=b", status: 200, answer: `{"next_batch":"s2"}`,
		want: []string{"request query at since: is given 2 times"}},
	{name: "parameter list", request: "POST " + client + "/join/%23a:b?via=a&via=b", sent: `{}`, status: 200, answer: `{"room_id":"!a:b"}`},
	{name: "parameter missing", request: "GET " + client + "/keys/changes?from=s1", status: 200, answer: `{}`,
		want: []string{"request query at to: is missing"}},
	{name: "parameter of the path", request: "GET " + client + "/profile/alice", status: 200, answer: `{"displayname":"a"}`,
		want: []string{"request path at userId: 'alice' is not valid mx-user-id: does not begin with '@'"}},
	{name: "parameter of two forms", request: "GET /_matrix/client/v1/room_summary/a:b", status: 200,
		answer: `{"room_id":"!r:b","num_joined_members":1,"world_readable":true,"guest_can_join":true}`,
		want: []string{"request path at roomIdOrAlias: matches no alternative: 'a:b' is not valid mx-room-id: does not begin with '!'; " +
			"or 'a:b' is not valid mx-room-alias: does not begin with '#'"}},
	{name: "fields of a protocol", request: "GET " + client + "/thirdparty/user/irc?nick=a", status: 200, answer: `[]`},
	{name: "request body", request: "POST " + client + "/createRoom", sent: `{"preset":"secret","nmae":"x"}`, status: 200, answer: `{"room_id":"!a:b"}`,
		want: []string{"request at /nmae: is not declared", "request at /preset: value must be one of 'private_chat', 'public_chat', 'trusted_private_chat'"}},
	{name: "request body of a client not ours", request: "POST " + client + "/createRoom", sent: `{"nmae":"x"}`, status: 200, answer: `{"room_id":"!a:b"}`,
		change: func(x *Exchange) { x.LaxRequests = true }},
	{name: "request body missing", request: "POST " + client + "/createRoom", status: 200, answer: `{"room_id":"!a:b"}`,
		want: []string{"request: the body is missing"}},
	{name: "request body not wanted", request: "POST " + client + "/logout", sent: `{"all":true}`, status: 200, answer: `{}`,
		want: []string{"request: the operation takes no body"}},
	{name: "request body not JSON", request: "POST " + client + "/createRoom", sent: `{`, status: 200, answer: `{"room_id":"!a:b"}`,
		want: []string{"request: unexpected EOF"}},
	{name: "authentication data", request: "POST " + client + "/register", status: 200, answer: `{"user_id":"@a:b"}`,
		sent: `{"username":"a","password":"p","auth":{"type":"m.login.registration_token","token":"t","session":"s"}}`},
	{name: "upload", request: "POST /_matrix/media/v3/upload?filename=f", sent: "\x89PNG", status: 200, answer: `{"content_uri":"mxc://b/m"}`,
		change: func(x *Exchange) { x.RequestHeader.Set("Content-Type", "image/png") }},
}

func header(name, value string) func(*Exchange) {
	return func(x *Exchange) { x.ResponseHeader = http.Header{name: {value}} }
}

func TestCheck(t *testing.T) {
	s := load(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			x := exchange(t, c.request, c.sent, c.status, c.answer)
			if c.change != nil {
				c.change(x)
			}
			if diff := cmp.Diff(c.want, faults(s, x)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRoomVersion: once the version of a room is known, only its event format will do.
func TestRoomVersion(t *testing.T) {
	s := load(t)
	pdu := strings.Replace(pduV12, `"auth_events":["$a"]`, `"auth_events":[["$a",{"sha256":"h"}]]`, 1)
	pdu = strings.Replace(pdu, `"prev_events":["$p"]`, `"prev_events":[["$p",{"sha256":"h"}]],"event_id":"$e:b"`, 1)
	backfill := func() *Exchange {
		return exchange(t, "GET /_matrix/federation/v1/backfill/!r?v=$e&limit=1", "", 200, `{"origin":"b","origin_server_ts":1,"pdus":[`+pdu+`]}`)
	}
	if got := faults(s, backfill()); got != nil {
		t.Errorf("version unknown: %v", got)
	}
	made := exchange(t, "GET /_matrix/federation/v1/make_join/!r/@a:b?ver=12", "", 200,
		`{"room_version":"12","event":{"type":"m.room.member","sender":"@a:b","state_key":"@a:b","origin_server_ts":1,"content":{"membership":"join"}}}`)
	if got := faults(s, made); got != nil {
		t.Errorf("make_join: %v", got)
	}
	want := []string{
		"response 200 at /pdus/0/auth_events/0: got array, want string",
		"response 200 at /pdus/0/prev_events/0: got array, want string",
	}
	if diff := cmp.Diff(want, faults(s, backfill())); diff != "" {
		t.Errorf("version 12 (-want +got):\n%s", diff)
	}
	created := exchange(t, "GET "+client+"/rooms/!r/context/$e", "", 200, `{"state":[`+
		strings.NewReplacer("m.room.message", "m.room.create", "!r:b", "!r", `"msgtype":"m.text","body":"hi"`, `"room_version":"2"`, `"room_id"`, `"state_key":"","room_id"`).Replace(event)+`]}`)
	if got := faults(s, created); got != nil {
		t.Errorf("context: %v", got)
	}
	if got := faults(s, backfill()); got != nil {
		t.Errorf("version 2: %v", got)
	}
}

// TestErrata: each erratum excuses what it is for, and there is none without use.
func TestErrata(t *testing.T) {
	s := load(t)
	member := `"type":"m.room.member","sender":"@a:b","state_key":"@a:b","origin_server_ts":1,"content":{"membership":"invite","displayname":"a"}`
	space := `{"room_id":"!r:b","num_joined_members":1,"world_readable":true,"guest_can_join":true,"join_rule":"public","children_state":[]}`
	uses := map[string]*Exchange{
		"sender of presence": exchange(t, "GET "+client+"/sync", "", 200,
			`{"next_batch":"s","presence":{"events":[{"type":"m.presence","sender":"@a:b","content":{"presence":"online"}}]}}`),
		"room of ephemeral event": exchange(t, "PUT /_matrix/app/v1/transactions/1",
			`{"events":[],"ephemeral":[{"type":"m.typing","room_id":"!r:b","content":{"user_ids":[]}}]}`, 200, `{}`),
		"stream of more than room events": exchange(t, "GET "+client+"/events", "", 200,
			`{"start":"s1","end":"s2","chunk":[{"type":"m.typing","room_id":"!r:b","content":{"user_ids":[]}}]}`),
		"stripped state of member event": exchange(t, "GET "+client+"/events", "", 200,
			`{"start":"s1","end":"s2","chunk":[{`+member+`,"event_id":"$e","room_id":"!r:b","unsigned":{"invite_room_state":[]}}]}`),
		"room of notification": exchange(t, "GET "+client+"/notifications", "", 200,
			`{"notifications":[{"actions":[],"event":`+event+`,"read":true,"room_id":"!r:b","ts":1}]}`),
		"fallback key": exchange(t, "POST "+client+"/keys/upload",
			`{"fallback_keys":{"signed_curve25519:A":{"key":"k","signatures":{},"fallback":true}}}`, 200, `{"one_time_key_counts":{}}`),
		"unused fallback keys": exchange(t, "GET "+client+"/sync", "", 200, `{"next_batch":"s","device_unused_fallback_key_types":[]}`),
		"redacts beside content": exchange(t, "GET "+client+"/rooms/!r:b/event/$e", "", 200,
			strings.NewReplacer("m.room.message", "m.room.redaction", `"room_id"`, `"redacts":"$f","room_id"`, `"msgtype":"m.text","body":"hi"`, "").Replace(event)),
		"redacted by": exchange(t, "GET "+client+"/rooms/!r:b/event/$e", "", 200,
			strings.NewReplacer(`"room_id"`, `"unsigned":{"redacted_by":"$f"},"room_id"`, `"msgtype":"m.text","body":"hi"`, "").Replace(event)),
		"children of federated spaces": exchange(t, "GET /_matrix/federation/v1/hierarchy/!r:b", "", 200,
			`{"inaccessible_children":[],"children":[`+space+`],"room":`+space+`}`),
		"keys of sent membership": exchange(t, "PUT /_matrix/federation/v2/send_join/!r:b/$e",
			`{`+member+`,"origin":"b","room_id":"!r:b","depth":2,"hashes":{"sha256":"aa"},"signatures":{},"auth_events":[],"prev_events":[]}`, 200, `{"auth_chain":[],"state":[]}`),
		"keys of wrapped membership": exchange(t, "GET /_matrix/federation/v1/make_leave/!r:b/@a:b", "", 200,
			`{"room_version":"11","event":{`+member+`,"origin":"b","room_id":"!r:b","depth":2}}`),
		"origin of membership": exchange(t, "GET /_matrix/federation/v1/make_knock/!r:b/@a:b?ver=11", "", 200, `{"room_version":"11","event":{`+member+`}}`),
		"error of authentication stage": exchange(t, "POST "+client+"/register", `{}`, 401,
			strings.Replace(flows, `{`, `{"errcode":"M_FORBIDDEN","error":"no",`, 1)),
		"soft logout":   exchange(t, "GET "+client+"/sync", "", 401, `{"errcode":"M_UNKNOWN_TOKEN","error":"no","soft_logout":true}`),
		"admin contact": exchange(t, "POST "+client+"/createRoom", `{}`, 403, `{"errcode":"M_RESOURCE_LIMIT_EXCEEDED","error":"full","admin_contact":"mailto:a@b.c"}`),
		"page about a limit": exchange(t, "POST "+client+"/createRoom", `{}`, 403,
			`{"errcode":"M_USER_LIMIT_EXCEEDED","error":"full","info_uri":"https://a.b/c","can_upgrade":true}`),
		"current backup version": exchange(t, "PUT "+client+"/room_keys/keys?version=1", `{}`, 403,
			`{"errcode":"M_WRONG_ROOM_KEYS_VERSION","error":"old","current_version":"2"}`),
		"method of accepted verification": exchange(t, "GET "+client+"/rooms/!r:b/event/$e", "", 200,
			strings.NewReplacer("m.room.message", "m.key.verification.accept", `"msgtype":"m.text","body":"hi"`,
				`"key_agreement_protocol":"k","hash":"h","message_authentication_code":"m","short_authentication_string":["emoji"],"commitment":"c"`).Replace(event)),
	}
	needed := map[string]bool{}
	for name, x := range uses {
		s.coverage = newCoverage(s.operations)
		if got := faults(s, x); got != nil {
			t.Errorf("%s: %v", name, got)
		}
		needed[name] = s.coverage.errata[name] > 0
	}
	for _, e := range errata {
		if !needed[e.Name] || e.Reason == "" {
			t.Errorf("erratum %q: nothing needs it, or it has no reason", e.Name)
		}
		delete(needed, e.Name)
	}
	if len(needed) > 0 {
		t.Errorf("not in the table: %v", needed)
	}
}

func TestPlacePattern(t *testing.T) {
	for _, c := range []struct {
		pointer, pattern string
		want             bool
	}{
		{"", "", true}, {"/a", "", false}, {"/a/b", "b", true}, {"/a/b", "/b", false}, {"/b", "/b", true},
		{"/x/a/0/b", "a/*/b", true}, {"/x/a/0/1/b", "a/*/b", false}, {"/b", "a/b", false}, {"/ab", "b", false},
	} {
		if got := endsWith(c.pointer, c.pattern); got != c.want {
			t.Errorf("endsWith(%q, %q) = %v", c.pointer, c.pattern, got)
		}
	}
}

func TestFormats(t *testing.T) {
	good := map[string][]string{
		"mx-server-name": {"b", "b.org:8448", "1.2.3.4:80", "[::1]:8448"},
		"mx-user-id":     {"@a:b", "@:b", "@a:[::1]:8448"}, "mx-room-alias": {"#a b:c"},
		"mx-room-id": {"!a:b", "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"}, "mx-event-id": {"$a", "$a:b"},
		"mx-mxc-uri": {"mxc://b/m_-1", "mxc://b:1/m"}, "mx-unpadded-base64": {"aa", "a+/b"}, "mx-urlsafe-unpadded-base64": {"a-_b"},
	}
	bad := map[string][]string{
		"mx-server-name": {"", "b:", "b:123456", "a/b", "[x]"},
		"mx-user-id":     {"", "@", "@a", "a:b", "@a:", "@" + strings.Repeat("a", 253) + ":b"}, "mx-room-alias": {"#a", "!a:b"},
		"mx-room-id": {"!", "#a:b", "!a:"}, "mx-event-id": {"", "a"},
		"mx-mxc-uri": {"", "mxc://b", "mxc:///m", "mxc://b/m/n", "https://b/m"}, "mx-unpadded-base64": {"a", "aa==", "a-_b"}, "mx-urlsafe-unpadded-base64": {"a+/b"},
	}
	for _, f := range formats() {
		if f.Validate(7) != nil || len(good[f.Name]) == 0 || len(bad[f.Name]) == 0 {
			t.Errorf("%s: no cases, or applies to numbers", f.Name)
		}
		for _, text := range good[f.Name] {
			if err := f.Validate(text); err != nil {
				t.Errorf("%s: %q: %v", f.Name, text, err)
			}
		}
		for _, text := range bad[f.Name] {
			if f.Validate(text) == nil {
				t.Errorf("%s: %q passes", f.Name, text)
			}
		}
	}
}

// TestFolderMissing: without the specification nothing is checked, so its absence is an error that tells the remedy.
func TestFolderMissing(t *testing.T) {
	empty := t.TempDir()
	t.Setenv(DataEnv, empty)
	_, err := DefaultDir()
	if _, loadErr := Load(empty); err == nil || loadErr == nil || loadErr.Error() != err.Error() {
		t.Fatalf("DefaultDir: %v; Load: %v", err, loadErr)
	}
	for _, part := range []string{empty, DataEnv, "matrix-org/matrix-spec"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not tell %q", err, part)
		}
	}
	t.Setenv(DataEnv, "")
	checkout := filepath.Join(empty, "checkout")
	if err := os.MkdirAll(filepath.Join(checkout, "tests", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(checkout, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(checkout, "tests", "x"))
	want := filepath.Join(empty, "shared", "matrix-spec", "data")
	if dir, err := DefaultDir(); err == nil || dir != want {
		t.Errorf("DefaultDir = %q, %v, want %q and an error", dir, err, want)
	}
	if err := os.MkdirAll(filepath.Join(want, "api", "client-server"), 0o755); err != nil {
		t.Fatal(err)
	}
	if dir, err := DefaultDir(); err != nil || dir != want {
		t.Errorf("DefaultDir = %q, %v, want %q", dir, err, want)
	}
}

func TestCoverage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coverage")
	t.Setenv(CoverageEnv, file)
	whoami := fmt.Sprintf("GET %s/account/whoami", client)
	for range 2 { // as two processes would
		s := load(t)
		s.Check(exchange(t, whoami, "", 200, `{"user_id":"@a:b"}`))
		s.Check(exchange(t, "GET "+client+"/sync", "", 401, `{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true}`))
		if err := s.Coverage().Save(); err != nil {
			t.Fatal(err)
		}
	}
	c := load(t).Coverage()
	all := len(c.Missing())
	if err := c.Merge(file); err != nil {
		t.Fatal(err)
	}
	want := map[Pair]int{{whoami, 200}: 2, {"GET " + client + "/sync", 401}: 2}
	if diff := cmp.Diff(want, c.Seen()); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
	missing := c.Missing()
	if slices.Contains(missing, Pair{whoami, 200}) || !slices.Contains(missing, Pair{whoami, 401}) || len(missing) != all-1 {
		t.Errorf("%d of %d pairs missing", len(missing), all)
	}
	if len(c.UnusedErrata()) != len(errata)-1 {
		t.Errorf("unused errata: %v", c.UnusedErrata())
	}
	for _, line := range []string{"operations: 2 of 212 exercised", whoami + ": never 401 403 429", "erratum not needed: redacted by"} {
		if !strings.Contains(c.String(), line+"\n") {
			t.Errorf("no line %q in the report:\n%.500s", line, c)
		}
	}
	if err := os.WriteFile(file, []byte("answer\tGET /x\tmany\t1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Merge(file); err == nil {
		t.Error("a broken file merges")
	}
}
