package federation

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

// EDUHandler takes in the EDUs of one type of a transaction: their contents, in their
// order. It has to check everything about them, as that the origin may speak for the
// users. An error that is a [matrix.Error] with a status below 500 means that there is
// nothing to be done about them; any other makes the origin send the transaction again.
type EDUHandler func(ctx context.Context, origin string, contents []stdjson.RawMessage) error

// eduHandlers are the handlers of all types.
func (a *API) eduHandlers() map[string]EDUHandler {
	handlers := maps.Clone(a.Parts.EDUs)
	if handlers == nil {
		handlers = map[string]EDUHandler{}
	}
	handlers["m.typing"] = a.takeTyping
	handlers["m.receipt"] = a.takeReceipts
	handlers["m.presence"] = a.takePresence
	return handlers
}

// typedEDUs are the contents of EDUs of one type, in their order.
type typedEDUs struct {
	eduType  string
	contents []stdjson.RawMessage
}

// transactionEDUs are those EDUs of a transaction that have handlers. First are the messages
// to devices, which may have the keys of the events beside them: nobody is to hear of an
// event before its key. Others may be about members whom the events bring.
type transactionEDUs struct {
	first, then []typedEDUs
	// lasting tells that there are some for one of the handlers that the API was given: they
	// may be of a kind that must not be taken in twice.
	lasting bool
}

func (a *API) readEDUs(raws []jsontext.Value) *transactionEDUs {
	var all []typedEDUs
	for _, raw := range raws {
		var edu struct {
			Type    string         `json:"edu_type"`
			Content jsontext.Value `json:"content"`
		}
		if json.Unmarshal(raw, &edu) != nil || edu.Content.Kind() != '{' || a.edus[edu.Type] == nil {
			continue
		}
		i := slices.IndexFunc(all, func(t typedEDUs) bool { return t.eduType == edu.Type })
		if i < 0 {
			i, all = len(all), append(all, typedEDUs{eduType: edu.Type})
		}
		all[i].contents = append(all[i].contents, stdjson.RawMessage(edu.Content))
	}
	t := &transactionEDUs{}
	for _, typed := range all {
		t.lasting = t.lasting || a.Parts.EDUs[typed.eduType] != nil
		if typed.eduType == "m.direct_to_device" {
			t.first = append(t.first, typed)
		} else {
			t.then = append(t.then, typed)
		}
	}
	return t
}

// takeEDUs hands each type's EDUs to its handler.
func (a *API) takeEDUs(ctx context.Context, origin string, edus []typedEDUs) error {
	for _, typed := range edus {
		err := a.edus[typed.eduType](ctx, origin, typed.contents)
		var told *matrix.Error
		if errors.As(err, &told) && told.Status < 500 {
			web.Logger(ctx).Debug("EDUs of another server were refused", "type", typed.eduType, "server", origin, "error", err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (a *API) takeTyping(ctx context.Context, origin string, contents []stdjson.RawMessage) error {
	var notices []roomserver.TypingNotice
	for _, content := range contents {
		var n roomserver.TypingNotice
		if json.Unmarshal(content, &n) == nil {
			notices = append(notices, n)
		}
	}
	return a.Serving.TakeTyping(ctx, origin, a.Typing, notices)
}

// takeReceipts reads no types but m.read: what else other servers might send is not for
// others than its user.
func (a *API) takeReceipts(ctx context.Context, origin string, contents []stdjson.RawMessage) error {
	var receipts []roomserver.RemoteReceipt
	for _, content := range contents {
		var rooms map[string]jsontext.Value
		if json.Unmarshal(content, &rooms) != nil {
			continue
		}
		for roomID, types := range rooms {
			var ofRoom struct {
				Read map[string]jsontext.Value `json:"m.read"`
			}
			if json.Unmarshal(types, &ofRoom) != nil {
				continue
			}
			for userID, raw := range ofRoom.Read {
				if r, ok := readReceipt(roomID, userID, raw); ok && len(receipts) < roomserver.MaxReceipts {
					receipts = append(receipts, r)
				}
			}
		}
	}
	return a.Serving.TakeReceipts(ctx, origin, receipts)
}

func readReceipt(roomID, userID string, raw jsontext.Value) (roomserver.RemoteReceipt, bool) {
	var receipt struct {
		EventIDs []string `json:"event_ids"`
		Data     struct {
			TS       int64  `json:"ts"`
			ThreadID string `json:"thread_id"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &receipt) != nil || len(receipt.EventIDs) != 1 {
		return roomserver.RemoteReceipt{}, false
	}
	return roomserver.RemoteReceipt{RoomID: roomID, UserID: userID, EventID: receipt.EventIDs[0],
		ThreadID: receipt.Data.ThreadID, TS: receipt.Data.TS}, true
}

func (a *API) takePresence(ctx context.Context, origin string, contents []stdjson.RawMessage) error {
	var updates []account.PresenceUpdate
	for _, content := range contents {
		var pushed struct {
			Push []jsontext.Value `json:"push"`
		}
		if json.Unmarshal(content, &pushed) != nil {
			continue
		}
		for _, raw := range pushed.Push {
			var u account.PresenceUpdate
			if len(updates) < account.MaxPresenceUpdates && json.Unmarshal(raw, &u) == nil {
				updates = append(updates, u)
			}
		}
	}
	return a.Presence.Take(ctx, origin, updates)
}
