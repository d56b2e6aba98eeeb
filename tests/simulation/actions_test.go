package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// act is a kind of thing that users do, and how often compared with others.
type act struct {
	weight int
	do     func(w *world)
}

func acts() []act {
	return []act{
		{26, (*world).say}, {8, (*world).sayAgain}, {8, (*world).setState}, {5, (*world).topicWar},
		{7, (*world).changePower}, {4, (*world).demoteEachOther}, {4, (*world).changeJoinRule}, {1, (*world).changeVisibility},
		{5, (*world).kick}, {5, (*world).ban}, {4, (*world).unban}, {5, (*world).invite}, {12, (*world).join}, {5, (*world).leave},
		{3, (*world).knock}, {5, (*world).redact}, {3, (*world).read},
	}
}

// doSomething does one thing of all.
func (w *world) doSomething(all []act) {
	sum := 0
	for _, a := range all {
		sum += a.weight
	}
	n := w.random.IntN(sum)
	for _, a := range all {
		if n -= a.weight; n < 0 {
			a.do(w)
			return
		}
	}
}

// patience is how long clients wait.
const patience = 5 * time.Minute

// client lets a user ask a server for something, which may take its time.
func (w *world) client(p *process, what string, fn func(ctx context.Context) error) {
	w.clients.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		defer cancel()
		w.note("%s: %s", p.name, what)
		if err := fn(ctx); err != nil {
			w.note("%s: %s: FAILED: %v", p.name, what, err)
		} else {
			w.note("%s: %s: done", p.name, what)
		}
	})
}

// someone is a user of a server that is up, and a room.
type someone struct {
	*process
	user string
	room *room
}

// anyone is any user and any room.
func (w *world) anyone() (someone, bool) {
	var up []*process
	for _, s := range w.servers {
		if p := s.running(); p != nil {
			up = append(up, p)
		}
	}
	r := pick(w, w.rooms)
	if len(up) == 0 {
		return someone{}, false
	}
	p := pick(w, up)
	return someone{p, pick(w, p.users), r}, true
}

// member is a joined user of a server that is up; with power, the mightiest of its server.
func (w *world) member(power bool) (someone, bool) {
	for range 8 {
		one, ok := w.anyone()
		if !ok {
			return one, false
		}
		if one.membership(one.room.id, one.user) != "join" {
			continue
		}
		if power {
			one.user = one.mightiest(one.room, one.user)
		}
		return one, true
	}
	return someone{}, false
}

// mightiest is the joined user of the server with the greatest power level.
func (p *process) mightiest(r *room, user string) string {
	levels := p.levels(r)
	best := user
	for _, u := range p.users {
		if p.membership(r.id, u) == "join" && levels.of(u) > levels.of(best) {
			best = u
		}
	}
	return best
}

// other is one of the joined users of the same server.
func (one someone) other(n int) someone {
	joined := slices.DeleteFunc(slices.Clone(one.users), func(u string) bool { return one.membership(one.room.id, u) != "join" })
	one.user = joined[n%len(joined)]
	return one
}

// roomRow is the server's row of a room; of number 0 if it has none.
func (p *process) roomRow(roomID string) storage.Room {
	room, err := p.db.RoomByID(context.Background(), roomID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		p.world.t.Fatal(err)
	}
	return room
}

func (p *process) stateEvent(roomID, eventType, stateKey string) *matrix.Event {
	entry, err := p.db.CurrentStateEvent(context.Background(), p.roomRow(roomID).Number, eventType, stateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	} else if err != nil {
		p.world.t.Fatal(err)
	}
	return entry.Event.Event
}

// membership is what the server holds for a user's membership; "" for none.
func (p *process) membership(roomID, user string) string {
	if e := p.stateEvent(roomID, "m.room.member", user); e != nil {
		return e.Membership()
	}
	return ""
}

// powerLevels is the content of m.room.power_levels.
type powerLevels struct {
	content  map[string]json.RawMessage
	users    map[string]int
	creators []string
}

func (l *powerLevels) of(user string) int {
	if slices.Contains(l.creators, user) {
		return 1000
	}
	return l.users[user]
}

func (p *process) levels(r *room) *powerLevels {
	l := &powerLevels{content: map[string]json.RawMessage{}, users: map[string]int{}}
	if e := p.stateEvent(r.id, "m.room.power_levels", ""); e != nil {
		if err := json.Unmarshal(e.Content, &l.content); err != nil {
			p.world.t.Fatal(err)
		}
		if raw := l.content["users"]; raw != nil {
			if err := json.Unmarshal(raw, &l.users); err != nil {
				p.world.t.Fatal(err)
			}
		}
	}
	if create := p.stateEvent(r.id, "m.room.create", ""); create != nil && r.version.PrivilegedCreators() {
		l.creators = []string{create.Sender}
	}
	return l
}

func (l *powerLevels) with(user string, level int) json.RawMessage {
	l.users[user] = level
	l.content["users"] = encode(l.users)
	return encode(l.content)
}

func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // only the simulation's own values come here
	}
	return raw
}

// time is the server's clock.
func (p *process) time() int64 { return time.Now().UnixMilli() + p.skew }

// text is a message that no other is like.
func (w *world) text() json.RawMessage {
	w.said++
	return encode(map[string]string{"msgtype": "m.text", "body": fmt.Sprint("message ", w.said)})
}

func (w *world) say() {
	one, ok := w.member(false)
	if !ok {
		return
	}
	d := roomserver.Draft{Type: "m.room.message", Sender: one.user, Content: w.text(), OriginServerTS: one.time()}
	w.client(one.process, fmt.Sprintf("%s says %s in %s", one.user, d.Content, one.room.id), func(ctx context.Context) error {
		id, err := one.rooms.Send(ctx, one.room.id, d)
		w.note("%s: %s", one.name, id)
		return err
	})
}

// sayAgain sends a message twice under one transaction id, the second time perhaps after
// the server was down: it is one event.
func (w *world) sayAgain() {
	one, ok := w.member(false)
	if !ok {
		return
	}
	content := w.text()
	d := roomserver.Draft{Type: "m.room.message", Sender: one.user, Content: content, Device: "D", TxnID: string(content), OriginServerTS: one.time()}
	pause, ids := w.within(20*time.Second), []string{}
	send := func(ctx context.Context, p *process) error {
		id, err := p.rooms.Send(ctx, one.room.id, d)
		if err == nil {
			ids = append(ids, id)
		}
		return err
	}
	w.client(one.process, fmt.Sprintf("%s says %s in %s twice", one.user, content, one.room.id), func(ctx context.Context) error {
		first := send(ctx, one.process)
		time.Sleep(pause)
		p := one.server.running()
		if p == nil || first != nil {
			return first
		}
		err := send(p.ctx, p)
		if len(ids) == 2 && ids[0] != ids[1] {
			w.violated("%s has made two events of one request: %v", one.name, ids)
		}
		return err
	})
}

func (w *world) state(one someone, eventType, stateKey string, content json.RawMessage) {
	d := roomserver.Draft{Type: eventType, StateKey: &stateKey, Sender: one.user, Content: content, OriginServerTS: one.time()}
	w.client(one.process, fmt.Sprintf("%s sets %s %q to %s in %s", one.user, eventType, stateKey, content, one.room.id), func(ctx context.Context) error {
		id, err := one.rooms.SendState(ctx, one.room.id, d)
		w.note("%s: %s", one.name, id)
		return err
	})
}

func (w *world) setState() {
	one, ok := w.member(true)
	if !ok {
		return
	}
	switch w.random.IntN(3) {
	case 0:
		w.state(one, "m.room.name", "", encode(map[string]string{"name": fmt.Sprint("name ", w.random.IntN(100))}))
	case 1:
		w.state(one, "m.room.topic", "", encode(map[string]string{"topic": fmt.Sprint("topic ", w.random.IntN(100))}))
	default:
		w.state(one, "org.example.thing", fmt.Sprint(w.random.IntN(4)), encode(map[string]int{"n": w.random.IntN(100)}))
	}
}

// everywhere calls fn for the mightiest member of each server that is up and in the room.
func (w *world) everywhere(r *room, fn func(one someone)) {
	for _, s := range w.servers {
		p := s.running()
		if p == nil {
			continue
		}
		for _, user := range p.users {
			if p.membership(r.id, user) == "join" {
				fn(someone{p, p.mightiest(r, user), r})
				break
			}
		}
	}
}

// topicWar sets the topic from all servers in the same millisecond.
func (w *world) topicWar() {
	w.everywhere(pick(w, w.rooms), func(one someone) {
		w.state(one, "m.room.topic", "", encode(map[string]string{"topic": "of " + one.name}))
		time.Sleep(w.within(time.Millisecond / 8))
	})
}

func (w *world) changePower() {
	one, ok := w.member(true)
	if !ok {
		return
	}
	target := pick(w, pick(w, w.servers).users)
	levels := one.levels(one.room)
	if slices.Contains(levels.creators, target) {
		return
	}
	w.state(one, "m.room.power_levels", "", levels.with(target, pick(w, []int{0, 0, 10, 50, 50, 100})))
}

// demoteEachOther lets the mightiest of all servers take each other's power in the same
// millisecond.
func (w *world) demoteEachOther() {
	r := pick(w, w.rooms)
	var mighty []string
	w.everywhere(r, func(one someone) { mighty = append(mighty, one.user) })
	i := 0
	w.everywhere(r, func(one someone) {
		levels := one.levels(r)
		if i++; i < len(mighty) && !slices.Contains(levels.creators, mighty[i]) {
			w.state(one, "m.room.power_levels", "", levels.with(mighty[i], w.random.IntN(50)))
			time.Sleep(w.within(time.Millisecond / 8))
		}
	})
}

func (w *world) changeJoinRule() {
	one, ok := w.member(true)
	if !ok {
		return
	}
	content := map[string]any{"join_rule": pick(w, []string{"public", "public", "public", "invite", "knock"})}
	if one.room.version.Restricted() && w.chance(0.4) {
		content = map[string]any{"join_rule": "restricted",
			"allow": []any{map[string]string{"type": "m.room_membership", "room_id": pick(w, w.rooms).id}}}
	}
	w.state(one, "m.room.join_rules", "", encode(content))
}

func (w *world) changeVisibility() {
	one, ok := w.member(true)
	if !ok {
		return
	}
	w.state(one, "m.room.history_visibility", "", encode(map[string]string{
		"history_visibility": pick(w, []string{"shared", "shared", "joined", "invited", "world_readable"})}))
}

// change asks for a change of a membership.
func (w *world) change(one someone, verb, target string, fn func(*roomserver.Rooms, context.Context, string, roomserver.MemberChange) error) {
	c := roomserver.MemberChange{Sender: one.user, Target: target}
	if verb == "joins" || verb == "knocks" {
		for range 1 + w.random.IntN(3) {
			c.Via = append(c.Via, pick(w, w.servers).name)
		}
	}
	if w.chance(0.3) {
		c.Reason = fmt.Sprint("reason ", w.random.IntN(1000))
	}
	what := fmt.Sprintf("%s %s %s in %s", one.user, verb, target, one.room.id)
	if c.Via != nil {
		what += fmt.Sprint(" via ", c.Via)
	}
	w.client(one.process, what, func(ctx context.Context) error { return fn(one.rooms, ctx, one.room.id, c) })
}

// target is a user whose membership the member's server holds for one of these.
func (w *world) target(one someone, memberships ...string) (string, bool) {
	for range 8 {
		user := pick(w, pick(w, w.servers).users)
		if user != one.user && slices.Contains(memberships, one.membership(one.room.id, user)) {
			return user, true
		}
	}
	return "", false
}

func (w *world) kick() {
	if one, ok := w.member(true); ok {
		if target, ok := w.target(one, "join", "invite", "knock"); ok {
			w.change(one, "kicks", target, (*roomserver.Rooms).Kick)
		}
	}
}

func (w *world) ban() {
	if one, ok := w.member(true); ok {
		if target, ok := w.target(one, "join", "invite", "leave"); ok {
			w.change(one, "bans", target, (*roomserver.Rooms).Ban)
		}
	}
}

func (w *world) unban() {
	if one, ok := w.member(true); ok {
		if target, ok := w.target(one, "ban"); ok {
			w.change(one, "unbans", target, (*roomserver.Rooms).Unban)
		}
	}
}

func (w *world) invite() {
	if one, ok := w.member(true); ok {
		if target, ok := w.target(one, "", "leave", "knock"); ok {
			w.change(one, "invites", target, (*roomserver.Rooms).Invite)
		}
	}
}

// outsider is a user who is not in the room.
func (w *world) outsider() (someone, bool) {
	for range 8 {
		if one, ok := w.anyone(); ok && one.membership(one.room.id, one.user) != "join" {
			return one, true
		}
	}
	return someone{}, false
}

func (w *world) join() {
	if one, ok := w.outsider(); ok {
		w.change(one, "joins", one.user, (*roomserver.Rooms).Join)
	}
}

func (w *world) knock() {
	if one, ok := w.outsider(); ok {
		w.change(one, "knocks", one.user, (*roomserver.Rooms).Knock)
	}
}

func (w *world) leave() {
	for range 8 {
		one, ok := w.anyone()
		if ok && slices.Contains([]string{"join", "invite", "knock"}, one.membership(one.room.id, one.user)) {
			w.change(one, "leaves", one.user, (*roomserver.Rooms).Leave)
			return
		}
	}
}

// redact redacts something of late, one's own or what others have said. To redact what
// authorises others changes the verdicts of those who redact it before they judge.
func (w *world) redact() {
	one, ok := w.member(w.chance(0.5))
	if !ok {
		return
	}
	events, err := one.db.EventsBackward(one.ctx, one.roomRow(one.room.id).Number, 1<<62, 0, 12)
	if err != nil {
		w.t.Fatal(err)
	}
	events = slices.DeleteFunc(events, func(e storage.Event) bool {
		return slices.Contains([]string{"m.room.redaction", "m.room.power_levels", "m.room.join_rules"}, e.Type)
	})
	if len(events) == 0 {
		return
	}
	target := pick(w, events)
	d := roomserver.Draft{Type: "m.room.redaction", Sender: one.user, Redacts: target.ID, OriginServerTS: one.time(),
		Content: encode(map[string]string{"redacts": target.ID})}
	w.client(one.process, fmt.Sprintf("%s redacts %s in %s", one.user, target.ID, one.room.id), func(ctx context.Context) error {
		_, err := one.rooms.Send(ctx, one.room.id, d)
		return err
	})
}

// read pages back in the room, which fetches what is missing.
func (w *world) read() {
	if one, ok := w.member(false); ok {
		w.client(one.process, fmt.Sprintf("%s reads %s", one.user, one.room.id), func(ctx context.Context) error {
			return one.readBack(ctx, 60)
		})
	}
}

// readBack pages back through the room, at most so many events.
func (one *someone) readBack(ctx context.Context, most int) error {
	access, err := one.rooms.Access(ctx, one.room.id, one.user)
	if err != nil {
		return err
	}
	from, err := one.rooms.FirstToken("", true)
	for n := 0; err == nil && n < most; {
		var page roomserver.Page
		page, err = one.rooms.Messages(ctx, access, roomserver.PageQuery{Backwards: true, From: from, Limit: 20})
		if err != nil || !page.More {
			return err
		}
		n += len(page.Events)
		from = page.End
	}
	return err
}
