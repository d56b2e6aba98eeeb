package syncapi

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// answer is the answer to GET /sync.
type answer struct {
	*query
	upTo            stream.Pos
	joined, left    []*room
	invites, knocks []*invite
	accountData     []storage.AccountData
	presence        []storage.Presence
	deviceNews
}

// empty tells that nothing is new.
func (a *answer) empty() bool {
	return len(a.joined)+len(a.left)+len(a.invites)+len(a.knocks)+len(a.accountData)+len(a.presence) == 0 && a.deviceNews.empty()
}

// size is about how many bytes the answer has.
func (a *answer) size() int {
	const perRoom, perEvent = 400, 300 // bytes besides the contents of events
	n := perRoom + perRoom*len(a.presence)
	for _, m := range a.toDevice {
		n += perEvent + len(m.Content)
	}
	for _, rooms := range [][]*room{a.joined, a.left} {
		for _, r := range rooms {
			n += perRoom + perEvent*(len(r.timeline)+len(r.state)+len(r.receipts))
			for i := range r.timeline {
				n += len(r.timeline[i].Content)
			}
			for _, e := range r.state {
				n += len(e.Content)
			}
		}
	}
	return n
}

// writer appends JSON.
type writer struct {
	*answer
	dst     []byte
	view    roomserver.View
	scratch []byte
}

// AppendJSON appends the answer.
func (a *answer) AppendJSON(dst []byte) []byte {
	w := &writer{answer: a, dst: slices.Grow(dst, a.size())}
	w.view = roomserver.View{UserID: a.userID, Device: a.device, Now: time.Now().UnixMilli(), Federation: a.filter.Federation}
	w.dst = strconv.AppendInt(append(w.dst, `{"next_batch":"s`...), int64(a.upTo), 10)
	if a.delivered > 0 {
		w.dst = strconv.AppendInt(append(w.dst, '_'), int64(a.delivered), 10)
	}
	w.text(`"`)
	if len(a.accountData) > 0 {
		w.text(`,"account_data":`)
		w.userData(a.accountData)
	}
	if len(a.presence) > 0 {
		w.text(`,"presence":{"events":[`)
		for i, p := range a.presence {
			w.comma(i)
			w.present(p)
		}
		w.text(`]}`)
	}
	if a.query.devices {
		w.devices()
	}
	w.rooms()
	w.text(`}`)
	return w.dst
}

func (w *writer) text(s string) { w.dst = append(w.dst, s...) }

// comma comes before all items of a list but the first.
func (w *writer) comma(i int) {
	if i > 0 {
		w.dst = append(w.dst, ',')
	}
}

func (w *writer) present(p storage.Presence) {
	w.dst = account.AppendPresence(append(w.dst, `{"content":`...), p, w.view.Now)
	w.dst = matrix.AppendString(append(w.dst, `,"sender":`...), p.UserID)
	w.text(`,"type":"m.presence"}`)
}

func (w *writer) rooms() {
	if len(w.joined)+len(w.left)+len(w.invites)+len(w.knocks) == 0 {
		return
	}
	w.text(`,"rooms":{`)
	start := len(w.dst)
	section := func(name string, n int, id func(i int) string, write func(i int)) {
		if n == 0 {
			return
		}
		w.comma(len(w.dst) - start)
		w.dst = append(matrix.AppendString(w.dst, name), ':', '{')
		for i := range n {
			w.comma(i)
			w.dst = append(matrix.AppendString(w.dst, id(i)), ':')
			write(i)
		}
		w.text(`}`)
	}
	section("join", len(w.joined), func(i int) string { return w.joined[i].id }, func(i int) { w.joinedRoom(w.joined[i]) })
	section("invite", len(w.invites), func(i int) string { return w.invites[i].event.RoomID }, func(i int) { w.invite("invite_state", w.invites[i]) })
	section("knock", len(w.knocks), func(i int) string { return w.knocks[i].event.RoomID }, func(i int) { w.invite("knock_state", w.knocks[i]) })
	section("leave", len(w.left), func(i int) string { return w.left[i].id }, func(i int) { w.leftRoom(w.left[i]) })
	w.text(`}`)
}

func (w *writer) joinedRoom(r *room) {
	w.text(`{`)
	w.timeline(r)
	if r.fresh || len(r.state) > 0 || w.stateAfter() {
		w.state(r)
	}
	if r.summary != nil {
		w.dst = r.summary.append(append(w.dst, `,"summary":`...), w.userID)
	}
	if r.fresh || r.typed || len(r.receipts) > 0 {
		w.ephemeral(r)
	}
	if r.fresh || len(r.accountData) > 0 {
		w.text(`,"account_data":`)
		w.userData(r.accountData)
	}
	w.text(`}`)
}

func (w *writer) leftRoom(r *room) {
	w.text(`{`)
	w.timeline(r)
	w.state(r)
	if len(r.accountData) > 0 {
		w.text(`,"account_data":`)
		w.userData(r.accountData)
	}
	w.text(`}`)
}

func (w *writer) timeline(r *room) {
	w.text(`"timeline":{"events":[`)
	for i, e := range r.timeline {
		w.comma(i)
		w.view.Membership = e.membership
		w.event(e.rendered)
	}
	w.dst = strconv.AppendBool(append(w.dst, `],"limited":`...), r.limited)
	w.dst = matrix.AppendString(append(w.dst, `,"prev_batch":`...), r.prevBatch(roomserver.TokenAt(w.upTo)).String())
	w.text(`}`)
}

func (w *writer) state(r *room) {
	w.text(`,"`)
	w.text(w.stateKey)
	w.text(`":{"events":[`)
	w.view.Membership = ""
	for i, e := range r.state {
		w.comma(i)
		w.event(e)
	}
	w.text(`]}`)
}

// event appends an event, or those of its fields that the client wants.
func (w *writer) event(e *roomserver.ClientEvent) {
	if w.filter.Fields.All() {
		w.dst = e.AppendJSON(w.dst, w.view)
		return
	}
	w.scratch = e.AppendJSON(w.scratch[:0], w.view)
	w.dst = w.filter.Fields.Append(w.dst, w.scratch)
}

// userData appends account data as a batch of events.
func (w *writer) userData(list []storage.AccountData) {
	w.text(`{"events":`)
	w.dataList(list)
	w.text(`}`)
}

func (w *writer) dataList(list []storage.AccountData) {
	w.text(`[`)
	for i, d := range list {
		w.comma(i)
		w.data(d, "")
	}
	w.text(`]`)
}

// data appends account data as an event, with the room's id unless that is "".
func (w *writer) data(d storage.AccountData, roomID string) {
	w.dst = append(append(w.dst, `{"content":`...), d.Content...)
	w.roomID(roomID)
	w.dst = append(matrix.AppendString(append(w.dst, `,"type":`...), d.Type), '}')
}

// roomID appends the member room_id of an event, unless the id is "".
func (w *writer) roomID(id string) {
	if id != "" {
		w.dst = matrix.AppendString(append(w.dst, `,"room_id":`...), id)
	}
}

// invite appends the stripped state of a room with the user's own member event.
func (w *writer) invite(name string, i *invite) {
	w.text(`{"`)
	w.text(name)
	w.text(`":{"events":`)
	w.stripped(i)
	w.text(`}}`)
}

func (w *writer) stripped(i *invite) {
	w.text(`[`)
	if n := len(i.stripped); n > len(`[]`) {
		w.dst = append(append(w.dst, i.stripped[1:n-1]...), ',')
	}
	w.dst = roomserver.AppendStripped(w.dst, i.event.Event.Event)
	w.text(`]`)
}

// ephemeral appends who types and what has been read.
func (w *writer) ephemeral(r *room) {
	w.text(`,"ephemeral":{"events":[`)
	w.ephemeralEvents(r, "")
	w.text(`]}`)
}

// ephemeralEvents appends an m.typing event and one m.receipt event for each thread,
// with the room's id unless that is "".
func (w *writer) ephemeralEvents(r *room, roomID string) {
	start := len(w.dst)
	if r.typed {
		w.typists(r, roomID)
	}
	w.receiptEvents(r, roomID, len(w.dst) > start)
}

// typists appends an m.typing event.
func (w *writer) typists(r *room, roomID string) {
	w.text(`{"content":{"user_ids":`)
	w.strings(r.typing)
	w.text(`}`)
	w.roomID(roomID)
	w.text(`,"type":"m.typing"}`)
}

// receiptEvents appends one m.receipt event for each thread, after a comma if there is
// something before them.
func (w *writer) receiptEvents(r *room, roomID string, more bool) {
	var threads []string
	byThread := map[string][]storage.Receipt{}
	for _, receipt := range r.receipts {
		if _, known := byThread[receipt.ThreadID]; !known {
			threads = append(threads, receipt.ThreadID)
		}
		byThread[receipt.ThreadID] = append(byThread[receipt.ThreadID], receipt)
	}
	for i, thread := range threads {
		if more || i > 0 {
			w.text(`,`)
		}
		w.receipts(byThread[thread], roomID)
	}
}

// receipts appends an m.receipt event with the last receipts of each user: in each thread
// one, but of one event a single one, that for all threads before others.
func (w *writer) receipts(list []storage.Receipt, roomID string) {
	type who struct{ receiptType, userID, threadID string }
	seen := map[who]bool{}
	last := make([]storage.Receipt, 0, len(list))
	for _, receipt := range slices.Backward(list) {
		if by := (who{receipt.Type, receipt.UserID, receipt.ThreadID}); !seen[by] {
			seen[by] = true
			last = append(last, receipt)
		}
	}
	slices.SortFunc(last, func(a, b storage.Receipt) int {
		return cmp.Or(cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.Type, b.Type), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.ThreadID, b.ThreadID))
	})
	last = slices.CompactFunc(last, func(a, b storage.Receipt) bool {
		return a.EventID == b.EventID && a.Type == b.Type && a.UserID == b.UserID
	})
	w.text(`{"content":{`)
	for i, receipt := range last {
		switch {
		case i == 0 || last[i-1].EventID != receipt.EventID:
			if i > 0 {
				w.text(`}},`)
			}
			w.dst = append(matrix.AppendString(w.dst, receipt.EventID), ':', '{')
			w.dst = append(matrix.AppendString(w.dst, receipt.Type), ':', '{')
		case last[i-1].Type != receipt.Type:
			w.text(`},`)
			w.dst = append(matrix.AppendString(w.dst, receipt.Type), ':', '{')
		default:
			w.text(`,`)
		}
		w.receipt(receipt)
	}
	w.text(`}}}`)
	w.roomID(roomID)
	w.text(`,"type":"m.receipt"}`)
}

func (w *writer) receipt(receipt storage.Receipt) {
	w.dst = matrix.AppendString(w.dst, receipt.UserID)
	if w.text(`:{`); receipt.ThreadID != "" {
		w.dst = append(matrix.AppendString(append(w.dst, `"thread_id":`...), receipt.ThreadID), ',')
	}
	w.dst = append(strconv.AppendInt(append(w.dst, `"ts":`...), receipt.TS, 10), '}')
}
