package clients

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"beep/tests/harness"
)

// TestMautrix is a conversation of two users of mautrix-go, over a restart of the server.
func TestMautrix(t *testing.T) {
	harness.EachOwn(t, asInstalled, func(t *testing.T, srv *harness.Server) {
		w := newWire(t, srv)
		c := &conversation{T: t, server: srv, alice: newTalker(t, w, "alice"), bob: newTalker(t, w, "bob")}
		c.meet()
		c.talk()
		c.signals()
		c.restart()
		c.amend()
		c.rename()
		c.part()
		c.compareTexts()
		c.logout()
	})
}

// conversation is what Alice and Bob do. Each of its methods is a part of it and ends when
// both have heard of it.
type conversation struct {
	*testing.T
	server     *harness.Server
	alice, bob *talker
	room       id.RoomID
	texts      []string // what was said
}

// meet makes the room and gets Bob into it.
func (c *conversation) meet() {
	room, err := c.alice.CreateRoom(c.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", Name: "Planning"})
	c.check(err)
	c.room = room.RoomID
	create := c.alice.await("the new room", func(e *event.Event) bool { return e.RoomID == c.room && e.Type == event.StateCreate })
	if version := create.Content.AsCreate().RoomVersion; version != id.RoomV12 {
		c.Errorf("the room has version %q, not 12", version)
	}
	_, err = c.alice.InviteUser(c.Context(), c.room, &mautrix.ReqInviteUser{UserID: c.bob.UserID, Reason: "come in"})
	c.check(err)
	c.bob.await("the name of the room in the invite", func(e *event.Event) bool {
		return e.RoomID == c.room && e.Mautrix.EventSource&event.SourceInvite != 0 && e.Content.AsRoomName().Name == "Planning"
	})
	invite := c.bob.awaitMember(c.room, c.bob.UserID, event.MembershipInvite)
	if invite.Sender != c.alice.UserID || invite.Content.AsMember().Reason != "come in" {
		c.Errorf("the invite is by %s with the reason %q", invite.Sender, invite.Content.AsMember().Reason)
	}
	_, err = c.bob.JoinRoomByID(c.Context(), c.room)
	c.check(err)
	c.alice.awaitMember(c.room, c.bob.UserID, event.MembershipJoin)
	c.bob.awaitMember(c.room, c.bob.UserID, event.MembershipJoin)
}

// talk lets both say something, and the sender know its own echo.
func (c *conversation) talk() {
	for _, k := range []*talker{c.alice, c.bob, c.alice, c.bob} {
		said := c.say(k, "this is "+k.UserID.Localpart())
		for _, hearer := range []*talker{c.alice, c.bob} {
			echo := hearer.awaitEvent(said)
			if own, txnID := hearer == k, echo.Unsigned.TransactionID; own != (txnID != "") {
				c.Errorf("%s heard %s with the transaction id %q", hearer.UserID, k.UserID, txnID)
			}
		}
	}
}

// say says something new.
func (c *conversation) say(k *talker, text string) id.EventID {
	c.Helper()
	resp, err := k.SendText(c.Context(), c.room, text)
	c.check(err)
	c.texts = append(c.texts, text)
	return resp.EventID
}

// signals shows typing and reading.
func (c *conversation) signals() {
	_, err := c.bob.UserTyping(c.Context(), c.room, true, 20*time.Second)
	c.check(err)
	c.alice.await("typing", func(e *event.Event) bool {
		return e.Type == event.EphemeralEventTyping && slices.Contains(e.Content.AsTyping().UserIDs, c.bob.UserID)
	})
	_, err = c.bob.UserTyping(c.Context(), c.room, false, 0)
	c.check(err)
	c.alice.awaitLast("an end of typing", event.EphemeralEventTyping, func(e *event.Event) bool {
		return len(e.Content.AsTyping().UserIDs) == 0
	})
	said := c.say(c.alice, "read this")
	c.bob.awaitEvent(said)
	c.check(c.bob.MarkRead(c.Context(), c.room, said))
	c.alice.await("a receipt", func(e *event.Event) bool {
		if e.Type != event.EphemeralEventReceipt {
			return false
		}
		_, read := (*e.Content.AsReceipt())[said][event.ReceiptTypeRead][c.bob.UserID]
		return read
	})
}

// restart restarts the server while Alice speaks.
func (c *conversation) restart() {
	var said id.EventID
	var g errgroup.Group
	g.Go(func() error {
		resp, err := c.alice.SendText(c.Context(), c.room, "are you still there?")
		if err == nil {
			said = resp.EventID
		}
		return err
	})
	c.server.Restart(c)
	c.check(g.Wait())
	c.texts = append(c.texts, "are you still there?")
	c.bob.awaitEvent(said)
	c.alice.awaitEvent(said)
	c.alice.awaitEvent(c.say(c.bob, "I am"))
}

// amend edits a message, reacts to it and redacts it.
func (c *conversation) amend() {
	said := c.say(c.alice, "a slpi")
	c.bob.awaitEvent(said)
	edit := &event.MessageEventContent{MsgType: event.MsgText, Body: "a slip"}
	edit.SetEdit(said)
	edited, err := c.alice.SendMessageEvent(c.Context(), c.room, event.EventMessage, edit)
	c.check(err)
	c.texts = append(c.texts, "* a slip")
	heard := c.bob.awaitEvent(edited.EventID).Content.AsMessage()
	if heard.RelatesTo.GetReplaceID() != said || heard.NewContent == nil || heard.NewContent.Body != "a slip" {
		c.Errorf("the edit arrived as %+v", heard)
	}
	reaction, err := c.bob.SendReaction(c.Context(), c.room, said, "👍")
	c.check(err)
	if to := c.alice.awaitEvent(reaction.EventID).Content.AsReaction().RelatesTo; to.GetAnnotationID() != said || to.Key != "👍" {
		c.Errorf("the reaction arrived as %+v", to)
	}
	redaction, err := c.alice.RedactEvent(c.Context(), c.room, said, mautrix.ReqRedact{Reason: "a slip"})
	c.check(err)
	if content := c.bob.awaitEvent(redaction.EventID).Content.AsRedaction(); content.Redacts != said || content.Reason != "a slip" {
		c.Errorf("the redaction arrived as %+v", content)
	}
	got, err := c.bob.GetEvent(c.Context(), c.room, said)
	c.check(err)
	if because := got.Unsigned.RedactedBecause; len(got.Content.Raw) != 0 || because == nil || because.ID != redaction.EventID {
		c.Errorf("after the redaction the event is %+v", got)
	}
}

// rename changes a display name.
func (c *conversation) rename() {
	c.check(c.bob.SetDisplayName(c.Context(), "Bob the Builder"))
	renamed := c.alice.await("a new name", func(e *event.Event) bool {
		return e.Type == event.StateMember && e.GetStateKey() == c.bob.UserID.String() && e.Content.AsMember().Displayname == "Bob the Builder"
	})
	if content := renamed.Content.AsMember(); content.Membership != event.MembershipJoin {
		c.Errorf("with the new name, the membership is %q", content.Membership)
	}
}

// part lets Bob go, who then hears and says nothing more.
func (c *conversation) part() {
	_, err := c.bob.LeaveRoom(c.Context(), c.room, &mautrix.ReqLeave{Reason: "done"})
	c.check(err)
	c.alice.awaitMember(c.room, c.bob.UserID, event.MembershipLeave)
	left := c.bob.awaitMember(c.room, c.bob.UserID, event.MembershipLeave)
	if left.Mautrix.EventSource&event.SourceLeave == 0 {
		c.Errorf("the leave arrived as %v", left.Mautrix.EventSource)
	}
	if _, err := c.bob.SendText(c.Context(), c.room, "hello?"); !errors.Is(err, mautrix.MForbidden) {
		c.Errorf("Bob spoke after he had left: %v", err)
	}
	resp, err := c.alice.SendText(c.Context(), c.room, "at last")
	c.check(err)
	c.alice.awaitEvent(resp.EventID)
	_, err = c.bob.ForgetRoom(c.Context(), c.room)
	c.check(err)
}

// compareTexts fails unless both have heard everything once and in order, and Alice what she
// said after Bob had left.
func (c *conversation) compareTexts() {
	if diff := cmp.Diff(c.texts, c.bob.texts(c.room)); diff != "" {
		c.Errorf("what Bob heard (-said +heard):\n%s", diff)
	}
	if diff := cmp.Diff(append(c.texts, "at last"), c.alice.texts(c.room)); diff != "" {
		c.Errorf("what Alice heard (-said +heard):\n%s", diff)
	}
}

// logout logs Bob out.
func (c *conversation) logout() {
	c.bob.stop()
	_, err := c.bob.Logout(c.Context())
	c.check(err)
	if _, err := c.bob.Whoami(c.Context()); !errors.Is(err, mautrix.MUnknownToken) {
		c.Errorf("after the logout the token is answered with %v", err)
	}
	if _, err := c.alice.Whoami(c.Context()); err != nil {
		c.Errorf("after Bob's logout Alice gets %v", err)
	}
}

func (c *conversation) check(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// patience bounds the waiting of a test for what has to arrive.
const patience = 60 * time.Second

// retrySoon is mautrix's syncer, but for how long it waits after a sync that failed.
type retrySoon struct{ *mautrix.DefaultSyncer }

// OnFailedSync implements [mautrix.Syncer].
func (s retrySoon) OnFailedSync(resp *mautrix.RespSync, err error) (time.Duration, error) {
	wait, err := s.DefaultSyncer.OnFailedSync(resp, err)
	return min(wait, 200*time.Millisecond), err
}

// client is mautrix's client, which speaks over a wire.
func client(w *wire) (*mautrix.Client, error) {
	k, err := mautrix.NewClient("http://homeserver", "", "")
	if err != nil {
		return nil, err
	}
	k.Client = &http.Client{Transport: w, Timeout: patience}
	k.DefaultHTTPRetries, k.DefaultHTTPBackoff, k.MaxHTTPBackoff = 50, 100*time.Millisecond, time.Second
	return k, nil
}

// login registers a user and logs it in, so that it has a second device.
func login(ctx context.Context, k *mautrix.Client, name string) error {
	registered, err := k.RegisterDummy(ctx, &mautrix.ReqRegister[any]{Username: name, Password: harness.DefaultPassword})
	if err != nil {
		return err
	}
	_, err = k.Login(ctx, &mautrix.ReqLogin{
		Type: mautrix.AuthTypePassword, Password: harness.DefaultPassword, StoreCredentials: true,
		Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: name},
	})
	if err == nil && (k.UserID != registered.UserID || k.DeviceID == registered.DeviceID) {
		err = errors.New("the login is of " + string(k.UserID) + ", device " + string(k.DeviceID))
	}
	return err
}
