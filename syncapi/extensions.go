package syncapi

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"beep/matrix"
	"beep/stream"
)

// extensions are what a client of sliding sync wants to hear of beside events.
type extensions struct {
	ToDevice    toDeviceExtension `json:"to_device"`
	E2EE        extension         `json:"e2ee"`
	AccountData roomExtension     `json:"account_data"`
	Receipts    roomExtension     `json:"receipts"`
	Typing      roomExtension     `json:"typing"`
}

type extension struct {
	Enabled bool `json:"enabled"`
}

// roomExtension is for the rooms of some lists and some subscriptions. nil is all.
type roomExtension struct {
	extension
	Lists *[]string `json:"lists"`
	Rooms *[]string `json:"rooms"`
}

// toDeviceExtension has a position of its own, so that no message is lost with a connection.
type toDeviceExtension struct {
	extension
	Since string `json:"since"`
	Limit *int64 `json:"limit"`
}

// extensionSet are the extensions that are enabled.
type extensionSet uint8

const (
	extensionE2EE extensionSet = 1 << iota
	extensionToDevice
	extensionAccountData
	extensionReceipts
	extensionTyping
)

func (x *extensions) set() (all extensionSet) {
	for kind, enabled := range map[extensionSet]bool{
		extensionE2EE: x.E2EE.Enabled, extensionToDevice: x.ToDevice.Enabled, extensionAccountData: x.AccountData.Enabled,
		extensionReceipts: x.Receipts.Enabled, extensionTyping: x.Typing.Enabled,
	} {
		if enabled {
			all |= kind
		}
	}
	return all
}

// begins tells that the client has an extension enabled that it had not with its last answer.
func (s *sliding) begins(kind extensionSet) bool {
	return s.extensions.set()&kind != 0 && s.turn.base.extensions&kind == 0
}

// most is how many messages an answer has.
func (x *toDeviceExtension) most() int {
	if x.Limit == nil {
		return maxToDevice
	}
	return int(min(max(*x.Limit, 1), maxToDevice))
}

// since is the position up to which the device has got messages, 0 for none.
func (x *toDeviceExtension) since() (stream.Pos, error) {
	if !x.Enabled || x.Since == "" {
		return 0, nil
	}
	text, ok := strings.CutPrefix(x.Since, "d")
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, matrix.InvalidParam.Withf("%q is no position of extensions.to_device", x.Since)
	}
	return stream.Pos(n), nil
}

// covers tells whether the extension is for a room.
func (x *roomExtension) covers(m *match, rules *rules) bool {
	if !x.Enabled {
		return false
	}
	if m.subscribed && (x.Rooms == nil || slices.Contains(*x.Rooms, anything) || slices.Contains(*x.Rooms, m.place.roomID)) {
		return true
	}
	for i := range rules.lists {
		if m.lists.has(i) && (x.Lists == nil || slices.Contains(*x.Lists, anything) || slices.Contains(*x.Lists, rules.lists[i].key)) {
			return true
		}
	}
	return false
}

// roomExtensions are those that are about rooms.
func (s *sliding) roomExtensions() map[extensionSet]*roomExtension {
	x := s.extensions
	return map[extensionSet]*roomExtension{extensionAccountData: &x.AccountData, extensionReceipts: &x.Receipts, extensionTyping: &x.Typing}
}

// asksAnew tells whether the client has just begun to ask for something about the room.
func (g *gathering) asksAnew(m *match) bool {
	for kind, x := range g.sliding.roomExtensions() {
		if g.sliding.begins(kind) && x.covers(m, g.sliding.rules) {
			return true
		}
	}
	return false
}

// finishExtensions gathers what the extensions are for, beside what was found with the events.
func (g *gathering) finishExtensions(ctx context.Context, own changes, window bool) error {
	s := g.sliding
	if g.devices && (g.initial || s.begins(extensionToDevice) || g.mail || g.backlog() || !window) {
		if err := g.addToDevice(ctx); err != nil {
			return err
		}
	}
	if s.extensions.E2EE.Enabled && !g.initial {
		lists := g.listsFromWindow
		if !window {
			lists = g.listsFromDatabase
		}
		if err := lists(ctx, own); err != nil {
			return err
		}
	}
	if err := g.finishReceipts(ctx); err != nil {
		return err
	}
	g.finishTypingIn()
	return g.finishAccountData(ctx)
}

// missed are the rooms of which an extension has to be looked up: all that there is, and what is
// new since the room was told of. Elsewhere it is in what was gathered already.
func (g *gathering) missed(kind extensionSet, x *roomExtension) (all, some []*room) {
	for _, r := range g.order {
		switch {
		case r.left || !x.covers(r.match, g.sliding.rules):
		case r.fresh || g.sliding.begins(kind):
			all = append(all, r)
		case !r.match.sent.live:
			some = append(some, r)
		}
	}
	return all, some
}

func numbersOf(rooms []*room) []int64 {
	numbers := make([]int64, len(rooms))
	for i, r := range rooms {
		numbers[i] = r.number
	}
	return numbers
}

// finishReceipts looks up receipts: of a room that is new to the client the user's own, and those
// of the events that it gets.
func (g *gathering) finishReceipts(ctx context.Context) error {
	x := &g.sliding.extensions.Receipts
	all, some := g.missed(extensionReceipts, x)
	for _, r := range g.order {
		if !x.covers(r.match, g.sliding.rules) {
			r.receipts = nil
		}
	}
	for _, r := range slices.Concat(all, some) {
		r.receipts = nil
	}
	receipts, err := g.api.db.ReceiptsOf(ctx, numbersOf(all))
	if err != nil {
		return err
	}
	for _, receipt := range receipts {
		r := g.rooms[receipt.Room]
		if receipt.UserID == g.userID || !r.fresh || slices.ContainsFunc(r.timeline, func(e shown) bool { return e.ID == receipt.EventID }) {
			g.addReceipt(receipt)
		}
	}
	if receipts, err = g.api.db.ReceiptsSince(ctx, numbersOf(some), g.first(some), g.upTo); err != nil {
		return err
	}
	for _, receipt := range receipts {
		if receipt.Pos > g.rooms[receipt.Room].from {
			g.addReceipt(receipt)
		}
	}
	return nil
}

// finishTypingIn looks up who types.
func (g *gathering) finishTypingIn() {
	x := &g.sliding.extensions.Typing
	all, some := g.missed(extensionTyping, x)
	for _, r := range g.order {
		if !x.covers(r.match, g.sliding.rules) {
			r.typed = false
		}
	}
	for _, r := range all {
		typing, _ := g.api.typing.In(r.id)
		if r.typed = false; len(typing) > 0 {
			g.addTyping(r, typing)
		}
	}
	for _, r := range some {
		if typing, since := g.api.typing.In(r.id); since > r.from {
			g.addTyping(r, typing)
		}
	}
}

// finishAccountData looks up account data.
func (g *gathering) finishAccountData(ctx context.Context) error {
	x := &g.sliding.extensions.AccountData
	if !x.Enabled {
		g.answer.accountData = nil
	}
	for _, r := range g.order {
		if !x.covers(r.match, g.sliding.rules) {
			r.accountData = nil
		}
	}
	all, some := g.missed(extensionAccountData, x)
	numbers := numbersOf(slices.Concat(all, some))
	if g.sliding.begins(extensionAccountData) {
		numbers = append(numbers, 0)
	}
	data, err := g.api.db.AccountDataIn(ctx, g.userID, numbers)
	for _, d := range data {
		if r := g.rooms[d.Room]; d.Room == 0 || r.fresh || g.sliding.begins(extensionAccountData) || d.Pos > r.from {
			g.addAccountData(d)
		}
	}
	return err
}

// extended are the rooms of which an extension has something to tell.
func (a *slidingAnswer) extended(has func(*room) bool) (rooms []*room) {
	for _, r := range a.rooms {
		if has(r) {
			rooms = append(rooms, r)
		}
	}
	return rooms
}

func hasReceipts(r *room) bool    { return len(r.receipts) > 0 }
func hasTyping(r *room) bool      { return r.typed }
func hasAccountData(r *room) bool { return len(r.accountData) > 0 }
