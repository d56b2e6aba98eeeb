package federation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"beep/identity/identitytest"
	"beep/outbound/outboundtest"
	"beep/tests/harness"
)

// Users are invited by their mail addresses: those whom the identity server knows at once,
// others when they have told it who they are, in rooms of every version.
func TestInviteByAddress(t *testing.T) {
	ca := outboundtest.NewCA(t)
	identity := identitytest.New(t, ca)
	options := harness.Options{Config: fmt.Sprintf("identity_servers: {allow: ['%s'], allowed_networks: [127.0.0.0/8], ca_file: %s}", identity.Name, ca.File)}
	harness.EachFederation(t, 2, options, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		by := func(address string) harness.Object {
			return harness.Object{"id_server": identity.Name, "id_access_token": identitytest.Token(alice.UserID), "medium": "email", "address": address}
		}
		for version := 1; version <= 12; version++ {
			address := fmt.Sprintf("bob.%d@%s.example.org", version, strings.ReplaceAll(servers[1].Name, ":", "."))
			room := alice.CreateRoom(harness.Object{"room_version": fmt.Sprint(version), "name": "Planning", "invite_3pid": []any{by(strings.ToUpper(address))}})
			var bound harness.Object
			if err := json.Unmarshal(identity.Bind(address, bob.UserID), &bound); err != nil {
				t.Fatal(err)
			}
			servers[1].Client(t).Do(http.MethodPut, "/_matrix/federation/v1/3pid/onbind", bound).OK()
			bob.SyncUntil("an invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room).Exists() })
			bob.Join(room)
			bob.SyncUntilEvent(room, alice.Text(room, "hello"))
			alice.SyncUntilEvent(room, bob.Text(room, "hello yourself"))

			known := alice.CreateRoom(harness.Object{"room_version": fmt.Sprint(version)})
			alice.Post(harness.Path("/v3/rooms/%s/invite", known), by(address)).OK()
			bob.SyncUntil("an invite", func(r *harness.Response) bool { return r.At("rooms", "invite", known).Exists() })
		}
		room := alice.CreateRoom(nil)
		untrusted := by("x@example.org")
		untrusted["id_server"] = "identity.example"
		if r := alice.Post(harness.Path("/v3/rooms/%s/invite", room), untrusted).Fails(403, "M_SERVER_NOT_TRUSTED"); !strings.Contains(r.At("error").Str(), "identity_servers.allow") {
			t.Errorf("the operator is not told what to do: %s", r.Body)
		}
		alice.Post("/v3/createRoom", harness.Object{"invite_3pid": []any{untrusted}}).Fails(403, "M_SERVER_NOT_TRUSTED")
		incomplete := by("x@example.org")
		delete(incomplete, "id_access_token")
		alice.Post(harness.Path("/v3/rooms/%s/invite", room), incomplete).Fails(400, "M_MISSING_PARAM")
		other := by("x@example.org")
		other["id_access_token"] = identitytest.Token(bob.UserID)
		alice.Post(harness.Path("/v3/rooms/%s/invite", room), other).Fails(403, "M_FORBIDDEN")
	})
}
