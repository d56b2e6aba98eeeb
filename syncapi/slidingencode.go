package syncapi

import (
	"slices"
	"strconv"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// slidingAnswer is the answer to POST /sync of simplified sliding sync.
type slidingAnswer struct {
	*answer
	sliding *sliding // nil if nothing was looked at
	rooms   []*room  // all that were looked at
	pos     string
	txnID   string
}

// empty tells that nothing is new.
func (a *slidingAnswer) empty() bool {
	return a.answer.empty() && !slices.ContainsFunc(a.rooms, func(r *room) bool {
		return hasReceipts(r) || hasTyping(r) || hasAccountData(r)
	})
}

// AppendJSON appends the answer.
func (a *slidingAnswer) AppendJSON(dst []byte) []byte {
	w := &slidingWriter{writer{answer: a.answer, dst: slices.Grow(dst, a.size())}, a}
	w.view = roomserver.View{UserID: a.userID, Device: a.device, Now: time.Now().UnixMilli()}
	w.dst = matrix.AppendString(append(w.dst, `{"pos":`...), a.pos)
	if a.txnID != "" {
		w.dst = matrix.AppendString(append(w.dst, `,"txn_id":`...), a.txnID)
	}
	w.lists()
	w.rooms()
	w.extensions()
	w.text(`}`)
	return w.dst
}

type slidingWriter struct {
	writer
	a *slidingAnswer
}

// name appends the name of a member, after a comma unless the object begins.
func (w *slidingWriter) name(name string) {
	if w.dst[len(w.dst)-1] != '{' {
		w.dst = append(w.dst, ',')
	}
	w.dst = append(matrix.AppendString(w.dst, name), ':')
}

func (w *slidingWriter) int(name string, value int64) {
	w.name(name)
	w.dst = strconv.AppendInt(w.dst, value, 10)
}

func (w *slidingWriter) string(name, value string) {
	w.name(name)
	w.dst = matrix.AppendString(w.dst, value)
}

func (w *slidingWriter) bool(name string, value bool) {
	w.name(name)
	w.dst = strconv.AppendBool(w.dst, value)
}

func (w *slidingWriter) lists() {
	w.name("lists")
	w.text(`{`)
	if w.a.sliding != nil {
		for i, l := range w.a.sliding.rules.lists {
			w.name(l.key)
			w.text(`{`)
			w.int("count", int64(w.a.sliding.counts[i]))
			w.text(`}`)
		}
	}
	w.text(`}`)
}

func (w *slidingWriter) rooms() {
	w.name("rooms")
	w.text(`{`)
	for _, list := range [][]*room{w.joined, w.left} {
		for _, r := range list {
			w.name(r.id)
			w.text(`{`)
			w.room(r)
			w.text(`}`)
		}
	}
	for _, list := range [][]*invite{w.invites, w.knocks} {
		for _, i := range list {
			w.name(i.event.RoomID)
			w.text(`{`)
			m := w.a.sliding.matched[i.event.Room]
			w.common(m, true)
			w.name("invite_state")
			w.stripped(i)
			w.text(`}`)
		}
	}
	w.text(`}`)
}

// common appends what is told of every room.
func (w *slidingWriter) common(m *match, initial bool) {
	if initial {
		w.bool("initial", true)
	}
	w.string("membership", m.place.membership)
	w.int("bump_stamp", int64(m.bump()))
	if initial && m.direct || !initial && m.direct != m.sent.direct {
		w.bool("is_dm", m.direct)
	}
}

func (w *slidingWriter) room(r *room) {
	w.common(r.match, r.fresh)
	w.stateText("name", r, "m.room.name", "name")
	w.stateText("avatar", r, "m.room.avatar", "url")
	if r.summary != nil {
		w.int("joined_count", r.summary.joined)
		w.int("invited_count", r.summary.invited)
		w.heroes(r)
	}
	if r.match.expanded && !r.fresh {
		w.bool("unstable_expanded_timeline", true)
	}
	w.requiredState(r)
	w.timeline(r)
}

// stateText appends a text that a state event has, where that is news; null where it has none any more.
func (w *slidingWriter) stateText(name string, r *room, eventType, key string) {
	if !r.changed(eventType) {
		return
	}
	text := r.base[stateName{eventType, ""}].ContentString(key)
	switch {
	case text != "":
		w.string(name, text)
	case !r.fresh:
		w.name(name)
		w.text(`null`)
	}
}

// heroes appends those after whom the client names the room.
func (w *slidingWriter) heroes(r *room) {
	heroes := r.summary.heroes(w.userID)
	if len(heroes) == 0 {
		return
	}
	w.name("heroes")
	w.text(`[`)
	for i, hero := range heroes {
		w.comma(i)
		w.text(`{`)
		w.string("user_id", hero.UserID)
		w.profile(r.base[stateName{"m.room.member", hero.UserID}])
		w.text(`}`)
	}
	w.text(`]`)
}

// profile appends what a member event says of its user.
func (w *slidingWriter) profile(e *storage.Event) {
	if e == nil {
		return
	}
	for _, key := range []string{"displayname", "avatar_url"} {
		if text := e.ContentString(key); text != "" {
			w.string(key, text)
		}
	}
}

func (w *slidingWriter) requiredState(r *room) {
	if len(r.state) == 0 {
		return
	}
	w.name("required_state")
	w.text(`[`)
	w.view.Membership = ""
	for i, e := range r.state {
		w.comma(i)
		w.event(e)
	}
	w.text(`]`)
}

func (w *slidingWriter) timeline(r *room) {
	if r.fresh || len(r.timeline) > 0 || r.limited {
		w.name("timeline")
		w.text(`[`)
		live := int64(0)
		for i, e := range r.timeline {
			w.comma(i)
			w.view.Membership = e.membership
			w.event(e.rendered)
			if !w.initial && e.At > w.a.sliding.turn.base.upTo {
				live++
			}
		}
		w.text(`]`)
		w.int("num_live", live)
		w.string("prev_batch", r.prevBatch(roomserver.TokenAt(w.upTo)).String())
		w.bool("limited", r.limited)
	}
}

// extensions appends what the extensions that are enabled have to tell.
func (w *slidingWriter) extensions() {
	w.name("extensions")
	w.text(`{`)
	if w.a.sliding != nil {
		x := w.a.sliding.extensions
		if x.ToDevice.Enabled {
			w.toDevice()
		}
		if x.E2EE.Enabled {
			w.e2ee()
		}
		if x.AccountData.Enabled {
			w.accountData()
		}
		w.eachRoom("receipts", hasReceipts, func(r *room) { w.receipts(r.receipts, "") })
		w.eachRoom("typing", hasTyping, func(r *room) { w.typists(r, "") })
	}
	w.text(`}`)
}

func (w *slidingWriter) toDevice() {
	upTo := w.upTo
	if w.delivered > 0 {
		upTo = w.delivered
	}
	w.name("to_device")
	w.text(`{`)
	w.string("next_batch", "d"+strconv.FormatInt(int64(upTo), 10))
	w.name("events")
	w.messages()
	w.text(`}`)
}

func (w *slidingWriter) e2ee() {
	w.name("e2ee")
	w.text(`{`)
	if len(w.met)+len(w.parted) > 0 {
		w.deviceLists()
		w.text(`,`)
	}
	w.keyCounts()
	w.text(`}`)
}

func (w *slidingWriter) accountData() {
	rooms := w.a.extended(hasAccountData)
	if len(rooms) == 0 && len(w.writer.accountData) == 0 {
		return
	}
	w.name("account_data")
	w.text(`{`)
	w.name("global")
	w.dataList(w.writer.accountData)
	w.name("rooms")
	w.text(`{`)
	for _, r := range rooms {
		w.name(r.id)
		w.dataList(r.accountData)
	}
	w.text(`}}`)
}

// eachRoom appends an extension with an event for each room, if there are any.
func (w *slidingWriter) eachRoom(name string, has func(*room) bool, write func(*room)) {
	rooms := w.a.extended(has)
	if len(rooms) == 0 {
		return
	}
	w.name(name)
	w.text(`{"rooms":{`)
	for _, r := range rooms {
		w.name(r.id)
		write(r)
	}
	w.text(`}}`)
}
