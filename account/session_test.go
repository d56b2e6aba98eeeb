package account

import (
	"sync"
	"testing"
	"time"
)

func (w *world) refresh(token string) *Session {
	w.t.Helper()
	s, err := w.Refresh(w.t.Context(), token)
	w.must(err)
	return s
}

func (w *world) refreshFails(what, token string, softLogout bool) {
	w.t.Helper()
	_, err := w.Refresh(w.t.Context(), token)
	told := w.wants(what, err, "M_UNKNOWN_TOKEN")
	if told == nil || told.Status != 401 || (told.Fields["soft_logout"] == true) != softLogout {
		w.t.Errorf("%s: it is told %+v", what, told)
	}
}

func TestSessionWithoutRefresh(t *testing.T) {
	each(t, nil, func(w *world) {
		s := w.open(w.create("alice"), DeviceRequest{})
		if s.RefreshToken != "" || s.ExpiresIn != 0 {
			t.Errorf("a client that cannot refresh got %+v", s)
		}
		w.now = w.now.Add(10 * 365 * 24 * time.Hour)
		w.use(s.AccessToken, "")
	})
}

func TestRefresh(t *testing.T) {
	each(t, nil, func(w *world) {
		first := w.open(w.create("alice"), DeviceRequest{DeviceID: "D", Refresh: true})
		if first.ExpiresIn != 5*time.Minute {
			t.Errorf("the token works for %v", first.ExpiresIn)
		}
		w.use(first.AccessToken, "")

		// The old tokens work until one of the new ones is used, so that an answer
		// may get lost.
		second := w.refresh(first.RefreshToken)
		if second.DeviceID != "D" || second.AccessToken == first.AccessToken || second.RefreshToken == first.RefreshToken {
			t.Errorf("the next tokens are %+v", second)
		}
		w.use(first.AccessToken, "")
		again := w.refresh(first.RefreshToken)
		w.use(first.AccessToken, "")
		w.use(again.AccessToken, "")
		w.use(first.AccessToken, "M_UNKNOWN_TOKEN")
		w.use(again.AccessToken, "")
		w.refreshFails("the old refresh token", first.RefreshToken, true)

		// A client that refreshed twice at once may go on with either.
		w.use(second.AccessToken, "")
		third := w.refresh(second.RefreshToken)
		fourth := w.refresh(third.RefreshToken) // is a use as well
		w.use(second.AccessToken, "M_UNKNOWN_TOKEN")
		w.use(fourth.AccessToken, "")

		w.now = w.now.Add(5 * time.Minute)
		if told := w.use(fourth.AccessToken, "M_UNKNOWN_TOKEN"); told.Fields["soft_logout"] != true {
			t.Errorf("an expired token is told %+v", told)
		}
		w.use(w.refresh(fourth.RefreshToken).AccessToken, "")
	})
}

func TestRefreshTokenThatDidNotArrive(t *testing.T) {
	each(t, nil, func(w *world) {
		first := w.open(w.create("alice"), DeviceRequest{Refresh: true})
		lost := w.refresh(first.RefreshToken)
		w.now = w.now.Add(2 * time.Minute)
		kept := w.refresh(first.RefreshToken)
		w.use(lost.AccessToken, "M_UNKNOWN_TOKEN")
		w.use(kept.AccessToken, "")
	})
}

func TestReuseOfARefreshTokenEndsItsFamily(t *testing.T) {
	each(t, nil, func(w *world) {
		alice := w.create("alice")
		first := w.open(alice, DeviceRequest{DeviceID: "D", Refresh: true})
		other := w.open(alice, DeviceRequest{Refresh: true})
		second := w.refresh(first.RefreshToken)
		w.use(second.AccessToken, "")

		w.refreshFails("a client that is a little late", first.RefreshToken, true)
		w.use(second.AccessToken, "")
		w.now = w.now.Add(2 * time.Minute)
		w.refreshFails("a thief", first.RefreshToken, true)
		w.use(second.AccessToken, "M_UNKNOWN_TOKEN")
		w.refreshFails("the family", second.RefreshToken, false)
		w.use(other.AccessToken, "")
		w.refresh(other.RefreshToken)
		if _, err := w.Device(t.Context(), alice, "D"); err != nil {
			t.Errorf("the device, with its keys: %v", err)
		}
	})
}

func TestRefreshOfStrangers(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := t.Context()
		alice := w.create("alice")
		s := w.open(alice, DeviceRequest{Refresh: true})
		for _, token := range []string{"", "bpr_", s.AccessToken, s.RefreshToken + "x", "bpr_!" + s.RefreshToken[5:], newRefreshToken(make([]byte, familySize))} {
			w.refreshFails(token, token, false)
		}
		w.use(s.RefreshToken, "M_UNKNOWN_TOKEN")
		w.must(w.SetLocked(ctx, alice, true))
		_, err := w.Refresh(ctx, s.RefreshToken)
		w.wants("a locked user", err, "M_USER_LOCKED")
		w.must(w.SetLocked(ctx, alice, false))
		w.refresh(s.RefreshToken)
	})
}

func TestParallelRefresh(t *testing.T) {
	each(t, nil, func(w *world) {
		first := w.open(w.create("alice"), DeviceRequest{Refresh: true})
		sessions := make([]*Session, 8)
		var wg sync.WaitGroup
		for i := range sessions {
			wg.Go(func() { sessions[i], _ = w.Refresh(t.Context(), first.RefreshToken) })
		}
		wg.Wait()
		for _, s := range sessions {
			if s == nil {
				t.Fatal("a refresh failed because of another")
			}
			w.use(s.AccessToken, "")
		}
	})
}

func TestTokensAreRandom(t *testing.T) {
	seen := make(map[string]bool)
	ones := make([]int, secretSize*8)
	const n = 2000
	for range n {
		token := newSecret(accessPrefix)
		if len(token) != 46 || seen[token] {
			t.Fatalf("the token %q", token)
		}
		seen[token] = true
		for i, b := range randomBytes(secretSize) {
			for bit := range 8 {
				ones[8*i+bit] += int(b >> bit & 1)
			}
		}
	}
	for i, count := range ones { // each off by more than 7 standard deviations: never
		if count < n/2-157 || count > n/2+157 {
			t.Errorf("bit %d is set in %d of %d", i, count, n)
		}
	}
	counts := make(map[byte]int)
	for _, c := range []byte(randomText(26*n, capitals)) {
		counts[c]++
	}
	for c := byte('A'); c <= 'Z'; c++ {
		if counts[c] < n-308 || counts[c] > n+308 {
			t.Errorf("the letter %c comes %d times of %d", c, counts[c], n)
		}
	}
}
