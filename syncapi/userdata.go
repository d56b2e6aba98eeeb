package syncapi

import (
	"slices"

	"beep/push"
	"beep/storage"
)

const privateReceipt = "m.read.private"

// addReceipt takes in a receipt, if the user may see it and wants to.
func (g *gathering) addReceipt(receipt storage.Receipt) {
	r := g.room(receipt.Room)
	if r == nil || !g.wantsEphemeral(r, "m.receipt") || g.ignores(receipt.UserID) ||
		receipt.Type == privateReceipt && receipt.UserID != g.userID {
		return
	}
	r.receipts = append(r.receipts, receipt)
}

// addTyping takes in who types in a room now. The list is shared.
func (g *gathering) addTyping(r *room, userIDs []string) {
	if !g.wantsEphemeral(r, "m.typing") {
		return
	}
	r.typed, r.typing = true, userIDs
	if slices.ContainsFunc(userIDs, g.ignores) {
		r.typing = slices.DeleteFunc(slices.Clone(userIDs), g.ignores)
	}
}

// finishTyping tells a client that has been here before the program was started
// who types: nobody knows any more what it was told then.
func (g *gathering) finishTyping(r *room) {
	if g.initial || r.typed || g.token > g.api.started {
		return
	}
	typing, _ := g.api.typing.In(r.id)
	g.addTyping(r, typing)
}

// wantsEphemeral tells whether the client wants ephemeral events of a type from a room.
func (g *gathering) wantsEphemeral(r *room, eventType string) bool {
	return !r.left && !r.peeked && g.filter.Room.Ephemeral.AllowsRoom(r.id) && g.filter.Room.Ephemeral.AllowsType(eventType)
}

// addAccountData takes in account data of the user, which has changed.
func (g *gathering) addAccountData(d storage.AccountData) {
	if d.Room == 0 {
		if g.filter.AccountData.AllowsType(d.Type) {
			g.answer.accountData = latest(g.answer.accountData, d)
		}
		return
	}
	r := g.room(d.Room)
	if r != nil && g.filter.Room.AccountData.AllowsRoom(r.id) && g.filter.Room.AccountData.AllowsType(d.Type) {
		r.accountData = latest(r.accountData, d)
	}
}

// addDefaultRules tells the push rules of a user who has changed none.
func (g *gathering) addDefaultRules() error {
	isRules := func(d storage.AccountData) bool { return d.Type == push.RulesType }
	if slices.ContainsFunc(g.answer.accountData, isRules) {
		return nil
	}
	content, err := push.DefaultContent(g.userID)
	g.addAccountData(storage.AccountData{UserID: g.userID, Type: push.RulesType, Content: content})
	return err
}

// latest adds account data in place of what it was before.
func latest(list []storage.AccountData, d storage.AccountData) []storage.AccountData {
	for i := range list {
		if list[i].Type == d.Type {
			list[i] = d
			return list
		}
	}
	return append(list, d)
}
