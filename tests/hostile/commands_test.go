package hostile

import (
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// Nothing that is said in a room is a command to the server, whoever says it and in
// whatever room, and other servers reach no endpoint of administrators (F49).
func TestCommandsFromOtherServers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	name := victim.UniqueName("admin")
	victim.Command(t, "user", "create", name, "--admin", "--password", harness.DefaultPassword)
	admin := victim.Client(t)
	admin.UserID, admin.Password = "@"+name+":"+victim.Name, harness.DefaultPassword
	admin = admin.Login(nil).Lax()
	evil := victim.UniqueName("evil")
	theirs := s.NewRoom("12")
	admin.Post(harness.Path("/v3/join/%s", theirs.ID)+harness.Query("via", s.Name), nil).OK()
	direct := admin.CreateRoom(harness.Object{"preset": "trusted_private_chat", "is_direct": true, "invite": harness.List{s.Mallory()}})
	s.Join(direct, s.Mallory())
	var said []string
	for _, room := range []*Room{theirs, s.room(direct)} {
		for _, command := range []string{"!admin users create-user " + evil, `\!admin users create-user ` + evil, "!admin users make-user-admin " + s.Mallory(),
			"@conduit:" + victim.Name + ": create-user " + evil, "@server:" + victim.Name + ": create-user " + evil, "/admin create-user " + evil,
			"!admin server shutdown", "homeserver user create " + evil, "!beep user create " + evil} {
			for _, content := range []harness.Object{
				{"msgtype": "m.text", "body": command}, {"msgtype": "m.notice", "body": command, "m.mentions": harness.Object{"user_ids": harness.List{admin.UserID}}},
				{"msgtype": "m.server_notice", "body": command}, {"msgtype": "m.text", "body": "x", "format": "org.matrix.custom.html", "formatted_body": command},
			} {
				e := s.Build(room.Draft(s.Mallory(), "m.room.message", nil, content))
				room.Add(e)
				if refused := s.Send(e); len(refused) != 0 {
					t.Fatal(refused)
				}
				said = append(said, e.ID)
			}
		}
	}
	for _, room := range []string{theirs.ID, direct} {
		messages := 0
		for _, e := range admin.History(room) {
			if e.At("type").Str() != "m.room.message" {
				continue
			}
			messages++
			if matrix.ServerOf(e.At("sender").Str()) == victim.Name {
				t.Errorf("the server has answered: %v", e)
			}
		}
		if messages != len(said)/2 {
			t.Errorf("%d messages in %s, not %d", messages, room, len(said)/2)
		}
	}
	admin.Get("/v3/register/available", "username", evil).OK()
	for _, uri := range []string{"/_synapse/admin/v1/registration_tokens", "/_matrix/client/v3/account/whoami", "/_matrix/client/v3/sync"} {
		s.Get(uri).Refused(uri, 401)
	}
	uri := "/_synapse/admin/v1/registration_tokens/new"
	s.Post(uri, harness.Object{}).Refused(uri, 401)
	if tokens := admin.Get("/_synapse/admin/v1/registration_tokens").OK().At("registration_tokens").List(); len(tokens) != 0 {
		t.Errorf("there are tokens: %v", tokens)
	}
}
