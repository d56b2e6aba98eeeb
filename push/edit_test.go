package push_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"beep/matrix"
	"beep/push"
	"beep/storage"
	"beep/storage/storagetest"
)

const alice = "@alice:hs.example"

// Users have so many rules and no more; those they have stay theirs to change (C12, C26).
func TestNumberOfRules(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rules := push.DefaultRules(alice)
		for i := range 10_000 {
			rules.Room = append(rules.Room, push.Rule{ID: strconv.Itoa(i), Enabled: true, Actions: []json.RawMessage{}})
		}
		full, err := push.ContentOf(rules)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Write(t.Context(), func(tx *storage.Tx) error { return tx.PutAccountData(t.Context(), alice, 0, push.RulesType, full) })
		if err != nil {
			t.Fatal(err)
		}
		r := push.NewRules(db)
		put := func(id string) error {
			return r.Put(t.Context(), alice, push.Room, push.Rule{ID: id, Actions: []json.RawMessage{}}, "", "")
		}
		if err := put("new"); !errors.Is(err, matrix.InvalidParam) {
			t.Errorf("one more: %v", err)
		}
		if err := put("17"); err != nil {
			t.Errorf("one again: %v", err)
		}
		if err := r.Enable(t.Context(), alice, push.Room, "17", false); err != nil {
			t.Errorf("disabling one: %v", err)
		}
		if err := r.Delete(t.Context(), alice, push.Room, "18"); err != nil {
			t.Errorf("removing one: %v", err)
		}
		if err := put("new"); err != nil {
			t.Errorf("one in its place: %v", err)
		}
	})
}

// All rules of a user together are bounded, too (C26).
func TestSizeOfRules(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rules := push.DefaultRules(alice)
		large := json.RawMessage(`{"set_tweak":"sound","value":"` + strings.Repeat("x", 990) + `"}`)
		for i := range 2000 {
			rules.Room = append(rules.Room, push.Rule{ID: strconv.Itoa(i), Enabled: true, Actions: []json.RawMessage{large}})
		}
		full, err := push.ContentOf(rules)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Write(t.Context(), func(tx *storage.Tx) error { return tx.PutAccountData(t.Context(), alice, 0, push.RulesType, full) })
		if err != nil {
			t.Fatal(err)
		}
		r := push.NewRules(db)
		if err := r.Put(t.Context(), alice, push.Room, push.Rule{ID: "new", Actions: []json.RawMessage{}}, "", ""); !errors.Is(err, matrix.TooLarge) {
			t.Errorf("one more: %v", err)
		}
		if err := r.Enable(t.Context(), alice, push.Room, "17", true); err != nil {
			t.Errorf("enabling one: %v", err)
		}
		if err := r.SetActions(t.Context(), alice, push.Room, "17", []json.RawMessage{}); err != nil {
			t.Errorf("making one smaller: %v", err)
		}
	})
}

// What a user has changed of the server's rules stays when the server gets others; rules
// that the server has no more are gone.
func TestRulesOfOtherVersions(t *testing.T) {
	stored := `{"global":{"override":[{"rule_id":".m.rule.old","default":true,"enabled":true,"actions":[]},
		{"rule_id":"mine","default":false,"enabled":true,"conditions":[],"actions":["notify"]},
		{"rule_id":".m.rule.reaction","default":true,"enabled":false,"actions":["notify"],"conditions":[]}]}}`
	rules := push.RulesOf(alice, json.RawMessage(stored))
	if rules.Find(push.Override, ".m.rule.old") != nil || len(rules.Override) != 11 || len(rules.Underride) != 5 {
		t.Errorf("the rules are %+v", rules)
	}
	if r := rules.Find(push.Override, ".m.rule.reaction"); r.Enabled || len(r.Actions) != 1 || len(r.Conditions) != 1 {
		t.Errorf(".m.rule.reaction is %+v", r)
	}
	if rules.Override[1].ID != "mine" {
		t.Errorf("the user's rule is not the second")
	}
	if broken := push.RulesOf(alice, json.RawMessage(`{"global":5}`)); len(broken.Override) != 10 {
		t.Errorf("of what cannot be read: %+v", broken)
	}
}
