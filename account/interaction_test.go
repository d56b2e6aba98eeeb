package account

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// challenged checks that an error asks for more, and gives its session.
func (w *world) challenged(what string, err error, code string, completed ...string) (session string) {
	w.t.Helper()
	told, ok := err.(*matrix.Error)
	if !ok || told.Status != 401 || told.Fields["flows"] == nil || told.Code != code {
		w.t.Fatalf("%s: got %v, want a challenge with the code %q", what, err, code)
	}
	if diff := cmp.Diff(append([]string{}, completed...), told.Fields["completed"]); diff != "" {
		w.t.Errorf("%s: completed:\n%s", what, diff)
	}
	return told.Fields["session"].(string)
}

func passwordOf(user, password, session string) *AuthData {
	return &AuthData{Type: StagePassword, Session: session, Identifier: &Identifier{Type: "m.id.user", User: user}, Password: password}
}

func TestInteract(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := t.Context()
		alice := w.create("alice")
		w.create("eve")
		op := Operation{Name: "DELETE /devices/{deviceId}", UserID: alice, Subject: "D"}
		try := func(op Operation, auth *AuthData) error {
			_, err := w.Interact(ctx, op, auth)
			return err
		}

		session := w.challenged("no auth", try(op, nil), "")
		w.challenged("empty auth", try(op, &AuthData{}), "")
		if again := w.challenged("a wrong password", try(op, passwordOf("alice", "wrong", session)), "M_FORBIDDEN"); again != session {
			t.Error("the session changed")
		}
		w.challenged("a stage of no flow", try(op, &AuthData{Type: StageDummy, Session: session}), "M_FORBIDDEN")
		w.challenged("an unknown stage", try(op, &AuthData{Type: "m.login.magic", Session: session}), "M_FORBIDDEN")
		w.challenged("only the session", try(op, &AuthData{Session: session}), "")
		w.challenged("no password", try(op, &AuthData{Type: StagePassword, Session: session, User: "alice"}), "M_FORBIDDEN")

		for what, other := range map[string]Operation{
			"another route":   {Name: "POST /delete_devices", UserID: alice, Subject: "D"},
			"another device":  {Name: op.Name, UserID: alice, Subject: "E"},
			"another account": {Name: op.Name, UserID: "@eve:example.org", Subject: "D"},
		} {
			if told := w.wants(what, try(other, passwordOf("alice", password, session)), "M_FORBIDDEN"); told != nil && told.Status != 403 {
				t.Errorf("%s: the status is %d", what, told.Status)
			}
		}
		if told := w.wants("eve's password", try(op, passwordOf("eve", password, session)), "M_FORBIDDEN"); told.Status != 403 {
			t.Errorf("eve's password: the status is %d", told.Status)
		}

		w.must(try(op, passwordOf("alice", password, session)))
		fresh := w.challenged("a session that is used up", try(op, passwordOf("alice", password, session)), "M_FORBIDDEN")
		w.must(try(op, passwordOf("alice", password, fresh)))
		w.must(try(op, passwordOf("@alice:example.org", password, ""))) // without session, at once

		old := w.challenged("no auth", try(op, nil), "")
		w.now = w.now.Add(interactionLifetime)
		w.challenged("a session that has expired", try(op, passwordOf("alice", password, old)), "M_FORBIDDEN")
		w.interactions.sweep()
		if n := w.interactions.byID.Len(); n != 1 {
			t.Errorf("%d sessions are kept", n)
		}
	})
}

func TestInteractTellsWhoseAccountItIs(t *testing.T) {
	each(t, nil, func(w *world) {
		alice := w.create("alice")
		op := Operation{Name: "POST /account/password"}
		_, err := w.Interact(t.Context(), op, nil)
		session := w.challenged("no auth", err, "")
		i, err := w.Interact(t.Context(), op, passwordOf("Alice", password, session))
		w.must(err)
		if i.UserID() != alice {
			t.Errorf("the user is %q", i.UserID())
		}
	})
}

func TestInteractionsAreBounded(t *testing.T) {
	all := newInteractions(time.Now)
	first := all.begin(Operation{}, nil)
	if !all.reserve(first, "token", nil) {
		t.Fatal("the token cannot be reserved")
	}
	for range mostInteractions {
		all.keep(all.begin(Operation{}, nil))
	}
	if _, ok := all.find(first.id); ok || all.byID.Len() != mostInteractions || len(all.pending()) != 0 {
		t.Errorf("%d sessions are kept, and %v is pending", all.byID.Len(), all.pending())
	}
}

func TestFlows(t *testing.T) {
	flows := [][]string{{"a", "b"}, {"a", "c", "d"}}
	for _, test := range []struct {
		completed []string
		next      []string
		complete  bool
	}{
		{nil, []string{"a"}, false},
		{[]string{"a"}, []string{"b", "c"}, false},
		{[]string{"a", "b"}, nil, true},
		{[]string{"a", "c"}, []string{"d"}, false},
		{[]string{"a", "c", "d"}, nil, true},
	} {
		i := &Interaction{flows: flows, completed: test.completed}
		var next []string
		for _, stage := range []string{"a", "b", "c", "d", "e"} {
			if i.isNext(stage) {
				next = append(next, stage)
			}
		}
		if !slices.Equal(next, test.next) || i.complete() != test.complete {
			t.Errorf("after %v: next is one of %v, complete %v", test.completed, next, i.complete())
		}
	}
}

func TestFallback(t *testing.T) {
	each(t, func(o *Options) {
		o.Registration.TokenRequired = true
		o.Registration.Terms = []Terms{{Name: "privacy", Version: "1"}}
	}, func(w *world) {
		ctx := t.Context()
		_, err := w.Register(ctx, NewAccount{Username: "alice", Password: password}, nil)
		session := w.challenged("no auth", err, "")
		if _, possible, err := w.StageOf(session, StageRegistrationToken); !possible || err != nil {
			t.Errorf("the first stage: %v, %v", possible, err)
		}
		if _, possible, err := w.StageOf(session, StageTerms); possible || err != nil {
			t.Errorf("the second stage: %v, %v", possible, err)
		}
		_, _, err = w.StageOf(session+"x", StageTerms)
		w.wants("an unknown session", err, "M_NOT_FOUND")

		token := w.token(1)
		w.wants("no session", w.CompleteStage(ctx, &AuthData{Type: StageTerms}), "M_NOT_FOUND")
		w.wants("a wrong token", w.CompleteStage(ctx, &AuthData{Type: StageRegistrationToken, Session: session, Token: "x"}), "M_FORBIDDEN")
		w.must(w.CompleteStage(ctx, &AuthData{Type: StageRegistrationToken, Session: session, Token: token}))
		_, err = w.Register(ctx, NewAccount{Username: "alice", Password: password}, &AuthData{Session: session})
		w.challenged("after the first page", err, "", StageRegistrationToken)
		w.must(w.CompleteStage(ctx, &AuthData{Type: StageTerms, Session: session}))
		w.must(w.CompleteStage(ctx, &AuthData{Type: StageTerms, Session: session}))
		s, err := w.Register(ctx, NewAccount{Username: "alice", Password: password}, &AuthData{Session: session})
		w.must(err)
		w.use(s.AccessToken, "")
	})
}

// TestPasswordIsNowhere checks what a server keeps while somebody registers.
func TestPasswordIsNowhere(t *testing.T) {
	each(t, nil, func(w *world) {
		_, err := w.Register(t.Context(), NewAccount{Username: "alice", Password: password}, nil)
		i, _ := w.interactions.find(w.challenged("no auth", err, ""))
		if text := fmt.Sprintf("%+v", i); strings.Contains(text, password) || !strings.Contains(text, "$argon2id$") {
			t.Errorf("the session is %s", text)
		}
	})
}
