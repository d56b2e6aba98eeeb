package matrix

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memberEvent is a membership event of example.org for a user of a.test.
func memberEvent(t testing.TB, v RoomVersion, content string) *Event {
	t.Helper()
	key := "@bob:a.test"
	p := &Proto{Version: v, RoomID: "!room:example.org", Type: "m.room.member", StateKey: &key, Sender: "@alice:example.org",
		Content: []byte(content), OriginServerTS: 1, Depth: 7,
		PrevEvents: []Reference{{ID: "$previous:example.org"}}, AuthEvents: []Reference{{ID: "$create:example.org"}, {ID: "$rules:example.org"}}}
	if v.CreateWithoutRoom() {
		p.RoomID = "!0123456789abcdef"
	}
	e, err := fixedSigner.Build(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var countersigner = &Signer{ServerName: "a.test", KeyID: "ed25519:z", Key: fixedSigner.Key}

const (
	invited    = `{"membership":"invite","displayname":"Bob","reason":"x","is_direct":true,"org.example.more":[1]}`
	byAddress  = `{"membership":"invite","third_party_invite":{"display_name":"b","signed":{"mxid":"@bob:a.test","signatures":{},"token":"t"}}}`
	byProof    = `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@bob:a.test","sender":"@alice:example.org","signatures":{},"token":"t"}}}`
	authorised = `{"membership":"join","join_authorised_via_users_server":"@carol:a.test"}`
)

// A second signature leaves the event and the first signature as they are.
func TestCountersign(t *testing.T) {
	for _, v := range RoomVersions() {
		for _, content := range []string{invited, byAddress, byProof, authorised} {
			e := memberEvent(t, v, content)
			if !v.EventIDInEvent() { // what older servers write
				formerly, err := Parse(v, with(t, e.JSON, map[string]any{"origin": "example.org", "prev_state": []int{}}))
				if err != nil {
					t.Fatal(err)
				}
				e = formerly
			}
			signed, err := countersigner.Countersign(e)
			if err != nil {
				t.Fatalf("version %s, %s: %v", v, content, err)
			}
			again, err := Parse(v, signed.JSON)
			if err != nil || again.ID != e.ID || string(again.SignedForm()) != string(e.SignedForm()) {
				t.Errorf("version %s: %v, id %s, want %s", v, err, again.ID, e.ID)
			}
			want := e.Signatures()
			want["a.test"] = map[string]string{"ed25519:z": fixedSigner.sign(e.SignedForm())}
			if diff := cmp.Diff(want, again.Signatures()); diff != "" {
				t.Errorf("version %s (-want +got):\n%s", v, diff)
			}
		}
	}
}

// Nothing is signed but what invites and authorised joins are made of (F24).
func TestCountersignRefuses(t *testing.T) {
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	for name, test := range map[string]struct {
		content string
		changes map[string]any
		from    int // the first room version in which the signature would cover it
		to      int // the last one
	}{
		"another type":                  {`{"membership":"invite"}`, map[string]any{"type": "m.room.power_levels"}, 1, 12},
		"no state":                      {`{"membership":"invite"}`, map[string]any{"state_key": nil}, 1, 12},
		"a leave":                       {`{"membership":"leave"}`, nil, 1, 12},
		"a plain join":                  {`{"membership":"join"}`, nil, 1, 12},
		"a join authorised by a number": {`{"membership":"join","join_authorised_via_users_server":5}`, nil, 1, 12},
		"an authorised invite":          {`{"membership":"invite","join_authorised_via_users_server":"@carol:a.test"}`, nil, 1, 12},
		"a join by address":             {`{"membership":"join","join_authorised_via_users_server":"@carol:a.test","third_party_invite":{}}`, nil, 1, 12},
		"a membership beside":           {invited, map[string]any{"membership": "ban"}, 1, 10},
		"another's origin":              {invited, map[string]any{"origin": "a.test"}, 1, 10},
		"an origin that is none":        {invited, map[string]any{"origin": raw("[]")}, 1, 10},
		"a state before":                {invited, map[string]any{"prev_state": raw(`[["$x",{}]]`)}, 1, 10},
		"another hash":                  {invited, map[string]any{"hashes": raw(`{"sha256":"x","md5":"y"}`)}, 1, 12},
		"no hashes":                     {invited, map[string]any{"hashes": nil}, 1, 12},
		"signed for something else": {`{"membership":"invite","third_party_invite":{"signed":{"mxid":"@bob:a.test","more":1,"signatures":{},"token":"t"}}}`,
			nil, 11, 12},
		"signed with a sender that is none": {`{"membership":"invite","third_party_invite":{"signed":{"mxid":"@bob:a.test","sender":[],"signatures":{},"token":"t"}}}`,
			nil, 11, 12},
	} {
		for n, v := range RoomVersions() {
			e, err := Parse(v, with(t, memberEvent(t, v, test.content).JSON, test.changes))
			if err != nil {
				t.Fatalf("version %s, %s: %v", v, name, err)
			}
			signed, err := countersigner.Countersign(e)
			if covered := n+1 >= test.from && n+1 <= test.to; covered != errors.Is(err, InvalidParam) || covered != (signed == nil) {
				t.Errorf("version %s, %s: %v", v, name, err)
			}
		}
	}
}
