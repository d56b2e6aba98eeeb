//go:build goolm

package clients

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"beep/tests/harness"
)

// TestMautrixEncrypted is an encrypted conversation of a user with a bot at another server,
// both of mautrix-go, over a restart of the servers. The bot goes on on a second device.
func TestMautrixEncrypted(t *testing.T) {
	harness.EachFederation(t, 2, asInstalled, func(t *testing.T, servers []*harness.Server) {
		home := newWire(t, servers[1])
		alice, bot := quietTalker(t, newWire(t, servers[0]), "alice"), quietTalker(t, home, "bot")
		alices, bots := encrypt(alice), encrypt(bot)
		recovery, err := bots.GenerateAndVerifyWithRecoveryKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		alice.start()
		bot.answer()
		room := meetBot(alice, bot)
		converse(alice, bot, room, "how are you?")
		for _, srv := range servers {
			srv.Restart(t)
		}
		converse(alice, bot, room, "still there?")

		bot.stop()
		second := anotherDevice(home, bot)
		if err := encrypt(second).VerifyWithRecoveryKey(t.Context(), recovery); err != nil {
			t.Fatal(err)
		}
		second.answer()
		alice.awaitUntil("the new device", func() bool { // for which there has to be a new session
			session, err := alices.CryptoStore.GetOutboundGroupSession(t.Context(), room)
			return err == nil && session == nil
		})
		converse(alice, second, room, "who are you?")
		for _, device := range []id.DeviceID{bot.DeviceID, second.DeviceID} {
			found, err := alices.GetOrFetchDevice(t.Context(), bot.UserID, device)
			if err != nil {
				t.Fatal(err)
			}
			if trust, err := alices.ResolveTrustContext(t.Context(), found); err != nil || trust != id.TrustStateCrossSignedTOFU {
				t.Errorf("the bot's device %s is trusted as %s, %v", device, trust, err)
			}
		}
	})
}

// encrypt makes the talker, who does not sync yet, encrypt and decrypt what is said.
func encrypt(k *talker) *crypto.OlmMachine {
	k.t.Helper()
	helper, err := cryptohelper.NewCryptoHelper(k.Client, []byte("the test's"), filepath.Join(k.t.TempDir(), "crypto.db"))
	if err == nil {
		k.t.Cleanup(func() { k.check(helper.Close()) })
		begun := time.Now().UnixMilli()
		helper.DecryptErrorCallback = func(e *event.Event, err error) {
			if e.Timestamp >= begun && !errors.Is(err, context.Canceled) { // the device was there, and is
				k.t.Errorf("%s cannot decrypt %s: %v", k.UserID, e.ID, err)
			}
		}
		err = helper.Init(k.t.Context())
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.Crypto = helper
	return helper.Machine()
}

// answer makes the talker a bot: it joins where it is invited and answers questions.
func (k *talker) answer() {
	syncer := k.Syncer.(mautrix.ExtensibleSyncer)
	syncer.OnEventType(event.StateMember, func(ctx context.Context, e *event.Event) {
		if e.GetStateKey() == k.UserID.String() && e.Content.AsMember().Membership == event.MembershipInvite {
			_, err := k.JoinRoomByID(ctx, e.RoomID)
			k.check(err)
		}
	})
	syncer.OnEventType(event.EventMessage, func(ctx context.Context, e *event.Event) {
		if body := e.Content.AsMessage().Body; e.Sender != k.UserID && strings.HasSuffix(body, "?") {
			_, err := k.SendText(ctx, e.RoomID, "you ask: "+body)
			k.check(err)
		}
	})
	k.start()
}

// awaitUntil waits until something holds, which nobody tells of.
func (k *talker) awaitUntil(what string, holds func() bool) {
	k.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			k.t.Fatalf("%s did not get: %s", k.UserID, what)
		}
	}
}

func (k *talker) check(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		k.t.Error(err)
	}
}

// meetBot makes an encrypted room, in which the bot is.
func meetBot(alice, bot *talker) id.RoomID {
	alice.t.Helper()
	made, err := alice.CreateRoom(alice.t.Context(), &mautrix.ReqCreateRoom{
		Preset: "trusted_private_chat", IsDirect: true, Invite: []id.UserID{bot.UserID},
		InitialState: []*event.Event{{Type: event.StateEncryption, Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}}}},
	})
	if err != nil {
		alice.t.Fatal(err)
	}
	alice.awaitMember(made.RoomID, bot.UserID, event.MembershipJoin)
	return made.RoomID
}

// converse lets the bot answer to a question. Nobody but the two can read either.
func converse(alice, bot *talker, room id.RoomID, question string) {
	alice.t.Helper()
	said, err := alice.SendText(alice.t.Context(), room, question)
	if err != nil {
		alice.t.Fatal(err)
	}
	is := func(body string) func(*event.Event) bool {
		return func(e *event.Event) bool { return e.Type == event.EventMessage && e.Content.AsMessage().Body == body }
	}
	bot.await(question, is(question))
	answer := alice.await("an answer", is("you ask: "+question))
	for _, eventID := range []id.EventID{said.EventID, answer.ID} {
		stored, err := alice.GetEvent(alice.t.Context(), room, eventID)
		if err != nil || stored.Type != event.EventEncrypted || strings.Contains(string(stored.Content.VeryRaw), question) {
			alice.t.Errorf("the server has %+v, %v", stored, err)
		}
	}
}

// anotherDevice logs a talker in once more.
func anotherDevice(w *wire, k *talker) *talker {
	k.t.Helper()
	again := &talker{t: k.t, more: make(chan struct{})}
	var err error
	if again.Client, err = client(w); err == nil {
		_, err = again.Login(k.t.Context(), &mautrix.ReqLogin{
			Type: mautrix.AuthTypePassword, Password: harness.DefaultPassword, StoreCredentials: true,
			Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: k.UserID.Localpart()},
		})
	}
	if err != nil {
		k.t.Fatal(err)
	}
	again.listen()
	return again
}
