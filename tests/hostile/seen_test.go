package hostile

import (
	"net/http"
	"testing"

	"beep/tests/harness"
)

// sees tells whether a user is shown an event.
func sees(user *harness.Client, roomID, eventID string) bool {
	return user.Unchecked().Get(harness.Path("/v3/rooms/%s/event/%s", roomID, eventID)).Status == http.StatusOK
}

// shown fails the test unless a user is shown an event.
func shown(t *testing.T, user *harness.Client, roomID, eventID, what string) {
	t.Helper()
	if !sees(user, roomID, eventID) {
		t.Errorf("%s: the event is not there", what)
	}
}

// hidden fails the test if a user is shown an event.
func hidden(t *testing.T, user *harness.Client, roomID, eventID, what string) {
	t.Helper()
	if sees(user, roomID, eventID) {
		t.Errorf("%s: the event is there", what)
	}
}

// usable fails the test unless a user can speak in a room and a hostile server in it hears of it.
func usable(t *testing.T, user *harness.Client, s *Server, roomID string) {
	t.Helper()
	s.AwaitEvent(user.Text(roomID, "still here"))
}

// stateIDs are the ids of a room's state events, as a user is shown them, by type and key.
func stateIDs(user *harness.Client, roomID string) map[string]string {
	ids := map[string]string{}
	for _, e := range user.Unchecked().Get(harness.Path("/v3/rooms/%s/state", roomID)).OK().List() {
		ids[e.At("type").Str()+"|"+e.At("state_key").Str()] = e.At("event_id").Str()
	}
	return ids
}

// publicRoom makes a room of a version that a user of the hostile server is in.
func publicRoom(alice *harness.Client, s *Server, version, bob string) *Room {
	s.t.Helper()
	return s.Join(alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": version}), bob)
}
