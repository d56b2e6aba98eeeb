package remote

import (
	"errors"
	"testing"

	"beep/matrix"
	"beep/roomserver"
)

var _ roomserver.Remote = (*Rooms)(nil)

// TestVerifyEvents: an event needs the signatures of all servers that have to sign it, whatever others
// are there (F20, F21).
func TestVerifyEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := newKeyServer(t, w, "a.test", 2), newKeyServer(t, w, "b.test", 3)
	rooms := &Rooms{w.client, newRing(t, w, KeyRingOptions{})}
	build := func(signer *matrix.Signer, v matrix.RoomVersion, at int64, content string) *matrix.Event {
		user := "@u:" + a.name
		e, err := signer.Build(&matrix.Proto{Version: v, RoomID: "!r:x.test", Type: "m.room.member", StateKey: &user, Sender: user,
			Content: []byte(content), OriginServerTS: at})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	now := w.now().UnixMilli()
	far := w.now().Add(8 * day).UnixMilli()
	plain := `{"membership":"join"}`
	restricted := build(a.signer, "10", now, `{"membership":"join","join_authorised_via_users_server":"@m:`+b.name+`"}`)
	both, err := b.signer.Countersign(restricted)
	if err != nil {
		t.Fatal(err)
	}
	impostor := newSigner(a.name, 5)
	impostor.KeyID = a.signer.KeyID
	events := []*matrix.Event{
		build(a.signer, "12", now, plain), build(b.signer, "12", now, plain), build(impostor, "12", now, plain), restricted, both,
		build(a.signer, "4", far, plain), build(a.signer, "5", far, plain),
	}
	errs := rooms.Verify(t.Context(), events)
	for i, want := range []error{nil, matrix.ErrUnsigned, matrix.ErrBadSignature, matrix.ErrUnsigned, nil, nil, matrix.ErrNoKey} {
		if !errors.Is(errs[i], want) {
			t.Errorf("event %d: %v, want %v", i, errs[i], want)
		}
	}
	if a.asked.Load() != 1 || b.asked.Load() != 1 {
		t.Errorf("asked %d and %d times", a.asked.Load(), b.asked.Load())
	}
}
