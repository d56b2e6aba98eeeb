package syncapi

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/account"
	"beep/keys"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

const (
	// maxToDevice is how many send-to-device messages one answer has at most.
	maxToDevice = 100
	// sharedCounts is of how many devices the counts of keys stay in memory, and
	// knownInboxes of how many it is remembered what they have acknowledged.
	sharedCounts = 20_000
	knownInboxes = 20_000
	// fewUsers is up to how many users' rooms are looked at in memory.
	fewUsers = 20
)

// deviceNews is what an answer tells a device beside rooms and account data.
type deviceNews struct {
	toDevice []storage.ToDeviceMessage
	// delivered is up to where the device has got messages with this answer, if more wait;
	// else 0.
	delivered   stream.Pos
	counts      storage.KeyCounts
	counted     bool     // the counts are news
	met, parted []string // device_lists, in order: changed and left
}

func (n *deviceNews) empty() bool {
	return len(n.toDevice)+len(n.met)+len(n.parted) == 0 && !n.counted
}

// backlog tells that the device has not got all messages up to its token.
func (q *query) backlog() bool { return q.devices && q.inbox < q.token }

// around are the users whose devices may have become other ones for the user, or none.
type around struct {
	mail      bool // there is a message for the device
	told      map[string]struct{}
	changed   map[string]struct{} // devices have changed
	newcomers map[string]struct{} // came into a room of the user
	gone      map[string]struct{} // left a room of the user
	whole     []int64             // rooms of which all members are known only now
}

func newAround() around {
	return around{told: map[string]struct{}{}, changed: map[string]struct{}{}, newcomers: map[string]struct{}{}, gone: map[string]struct{}{}}
}

// takeDevices takes in one entry of the log.
func (g *gathering) takeDevices(e *stream.Entry) {
	switch e.Kind {
	case stream.ToDevice:
		g.mail = g.mail || slices.Contains(e.Value.(storage.ToDevice).Devices[g.userID], g.device)
	case stream.DeviceList:
		g.takeList(e)
	case stream.Whole:
		if g.snapshot.joined(e.Room) {
			g.whole = append(g.whole, e.Room)
		}
	case stream.Event, stream.State:
		if !g.snapshot.joined(e.Room) {
			return
		}
		for _, event := range eventsOf(e) {
			if event.Type == "m.room.member" && event.StateKey != nil {
				g.takeMember(event)
			}
		}
	}
}

// takeList takes in a change of a user's devices, or of signatures that the user alone sees.
func (g *gathering) takeList(e *stream.Entry) {
	signed, private := e.Value.([]string)
	if !private {
		g.around.changed[e.User] = struct{}{}
		return
	}
	if e.User == g.userID {
		for _, userID := range signed {
			g.told[userID] = struct{}{}
		}
	}
}

// takeMember takes in a member event of a room that the user is in.
func (g *gathering) takeMember(e *roomserver.ClientEvent) {
	was := before(e)
	unknown := was == "" && e.Replaces != 0
	switch now := e.Membership(); {
	case now == "join" && was != "join":
		g.around.newcomers[*e.StateKey] = struct{}{}
	case now != "join" && (was == "join" || unknown):
		g.around.gone[*e.StateKey] = struct{}{}
	}
}

// finishDevices gathers what is for the device, from what the window has shown.
func (g *gathering) finishDevices(ctx context.Context, own changes) error {
	if !g.devices {
		return nil
	}
	if g.mail || g.backlog() {
		if err := g.addToDevice(ctx); err != nil {
			return err
		}
	}
	return g.listsFromWindow(ctx, own)
}

func (g *gathering) listsFromWindow(ctx context.Context, own changes) error {
	for userID := range g.around.changed {
		shares, err := g.sharesRoom(ctx, userID)
		if err != nil {
			return err
		}
		if shares {
			g.told[userID] = struct{}{}
		}
	}
	maps.Copy(g.told, g.around.newcomers)
	return g.finishLists(ctx, own)
}

// devicesFromDatabase gathers what is for a device that was away for long.
func (g *gathering) devicesFromDatabase(ctx context.Context, own changes) error {
	if !g.devices {
		return nil
	}
	if err := g.addToDevice(ctx); err != nil {
		return err
	}
	return g.listsFromDatabase(ctx, own)
}

func (g *gathering) listsFromDatabase(ctx context.Context, own changes) error {
	rooms := g.snapshot.joinedRooms()
	changed, err := g.api.db.DeviceListsSince(ctx, g.userID, rooms, g.since, g.upTo)
	if err != nil {
		return err
	}
	joined, gone, err := g.api.db.MembersSince(ctx, rooms, g.since, g.upTo)
	if err != nil {
		return err
	}
	signed, err := g.api.db.SignedSince(ctx, g.userID, g.since, g.upTo)
	if err != nil {
		return err
	}
	for _, userID := range slices.Concat(changed, signed) {
		g.told[userID] = struct{}{}
	}
	for _, userID := range joined {
		if userID != g.userID {
			g.told[userID] = struct{}{}
		}
	}
	for _, userID := range gone {
		g.around.gone[userID] = struct{}{}
	}
	return g.finishLists(ctx, own)
}

// finishLists adds whom the user meets in the rooms that the user came into and whom no
// longer, and makes the lists.
func (g *gathering) finishLists(ctx context.Context, own changes) error {
	came, went := own.rooms()
	met, err := g.api.db.JoinedMembers(ctx, append(came, g.whole...))
	if err != nil {
		return err
	}
	lost, err := g.api.db.JoinedMembers(ctx, went)
	if err != nil {
		return err
	}
	for _, userID := range met {
		if userID != g.userID {
			g.told[userID] = struct{}{}
		}
	}
	for _, userID := range lost {
		g.around.gone[userID] = struct{}{}
	}
	delete(g.around.gone, g.userID)
	left, err := g.apart(ctx, slices.Collect(maps.Keys(g.around.gone)))
	if err != nil {
		return err
	}
	for _, userID := range left {
		delete(g.told, userID)
	}
	g.answer.met, g.answer.parted = slices.Sorted(maps.Keys(g.told)), left
	return nil
}

// joinedRooms are the numbers of the rooms that the user is joined to.
func (s *snapshot) joinedRooms() []int64 {
	var rooms []int64
	for number, p := range s.places {
		if p.membership == "join" {
			rooms = append(rooms, number)
		}
	}
	return rooms
}

// rooms are those that the user came into, and those that the user was in and is not.
func (all changes) rooms() (came, went []int64) {
	for number, own := range all {
		was, last := before(own[0]), own[len(own)-1].Membership()
		if last != "join" && was == "join" {
			went = append(went, number)
		}
		if last == "join" && (was != "join" || slices.ContainsFunc(own, func(e *roomserver.ClientEvent) bool { return e.Membership() != "join" })) {
			came = append(came, number)
		}
	}
	return came, went
}

// apart are those of the users with whom the user shares no room, in order.
func (g *gathering) apart(ctx context.Context, userIDs []string) ([]string, error) {
	slices.Sort(userIDs)
	sharing := map[string]bool{}
	if len(userIDs) <= fewUsers {
		for _, userID := range userIDs {
			shares, err := g.sharesRoom(ctx, userID)
			if err != nil {
				return nil, err
			}
			sharing[userID] = shares
		}
	} else {
		found, err := g.api.db.JoinedToAny(ctx, g.snapshot.joinedRooms(), userIDs)
		if err != nil {
			return nil, err
		}
		for _, userID := range found {
			sharing[userID] = true
		}
	}
	return slices.DeleteFunc(userIDs, func(userID string) bool { return sharing[userID] }), nil
}

// addToDevice adds the messages that the device has not got.
func (g *gathering) addToDevice(ctx context.Context) error {
	if g.device == "" {
		return nil
	}
	most := maxToDevice
	if g.sliding != nil {
		most = g.sliding.extensions.ToDevice.most()
	}
	messages, err := g.api.db.ToDeviceMessages(ctx, g.userID, g.device, g.inbox, g.upTo, most+1)
	if err != nil || len(messages) == 0 {
		return err
	}
	if len(messages) > most {
		messages = messages[:most]
		g.answer.delivered = messages[most-1].Pos
	}
	g.answer.toDevice = messages
	g.api.inboxes.deliver(deviceKey{g.userID, g.device}, messages[len(messages)-1].Pos)
	return nil
}

// addCounts adds the numbers of the device's keys.
func (g *gathering) addCounts(ctx context.Context) error {
	if g.device == "" {
		return nil
	}
	key := deviceKey{g.userID, g.device}
	found, err := g.api.sessions.counts.get(ctx, []deviceKey{key}, func([]deviceKey) (map[deviceKey]storage.KeyCounts, error) {
		counts, err := g.api.db.KeyCounts(ctx, g.userID, g.device)
		return map[deviceKey]storage.KeyCounts{key: counts}, err
	})
	g.answer.counts = found[key]
	g.answer.counted = g.answer.counts.Pos > g.since
	return err
}

// inboxes remember which devices have got messages that they have not acknowledged. Of what
// they forget, the database is asked.
type inboxes struct {
	db        *storage.DB
	mu        sync.Mutex
	delivered *lru.Cache[deviceKey, stream.Pos] // up to where; 0: all of it is acknowledged
}

func newInboxes(db *storage.DB) *inboxes {
	// The constructor fails only for a size that is not positive.
	delivered, _ := lru.New[deviceKey, stream.Pos](knownInboxes)
	return &inboxes{db: db, delivered: delivered}
}

func (i *inboxes) deliver(device deviceKey, pos stream.Pos) {
	i.mu.Lock()
	defer i.mu.Unlock()
	before, _ := i.delivered.Peek(device)
	i.delivered.Add(device, max(before, pos))
}

// acknowledge removes the messages that a device has got: it comes with the token of the
// answer that they were in.
func (i *inboxes) acknowledge(ctx context.Context, device deviceKey, upTo stream.Pos) error {
	delivered, known := i.delivered.Get(device)
	if known && (delivered == 0 || delivered > upTo) {
		return nil
	}
	if !known {
		waiting, err := i.db.HasToDevice(ctx, device.userID, device.deviceID, upTo)
		if err != nil {
			return err
		}
		if !waiting {
			i.delivered.ContainsOrAdd(device, 0)
			return nil
		}
	}
	err := i.db.Write(ctx, func(tx *storage.Tx) error { return tx.DeleteToDevice(ctx, device.userID, device.deviceID, upTo) })
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if now, _ := i.delivered.Peek(device); now == delivered {
		i.delivered.Add(device, 0)
	}
	return nil
}

// keyChangesRequest is GET /keys/changes.
type keyChangesRequest struct {
	From string `query:"from"`
	To   string `query:"to"`
}

type keyChanges struct {
	Changed []string `json:"changed"`
	Left    []string `json:"left"`
}

// keyChanges is GET /keys/changes, up to now: what came after the end the client will hear
// of once more.
func (a *API) keyChanges(ctx context.Context, who *account.Caller, req *keyChangesRequest) (*keyChanges, error) {
	if req.From == "" || req.To == "" {
		return nil, matrix.MissingParam.With("from and to are required")
	}
	q := &query{userID: who.UserID, filter: &matrix.Filter{}}
	var err error
	if q.since, _, err = parseToken(req.From); err != nil {
		return nil, err
	}
	if _, _, err = parseToken(req.To); err != nil {
		return nil, err
	}
	now, err := a.sessions.read(ctx, who.UserID)
	if err != nil {
		return nil, err
	}
	g := newGathering(a, q, view{snapshot: now, upTo: a.db.Clock.Current()})
	own, err := g.ownInDatabase(ctx)
	if err != nil {
		return nil, err
	}
	err = g.listsFromDatabase(ctx, own)
	return &keyChanges{g.answer.met, g.answer.parted}, err
}

// devices appends what is for the device.
func (w *writer) devices() {
	if len(w.toDevice) > 0 {
		w.text(`,"to_device":{"events":`)
		w.messages()
		w.text(`}`)
	}
	if len(w.met)+len(w.parted) > 0 {
		w.text(`,`)
		w.deviceLists()
	}
	w.text(`,`)
	w.keyCounts()
}

// messages appends the messages for the device.
func (w *writer) messages() {
	w.text(`[`)
	for i, m := range w.toDevice {
		w.comma(i)
		w.dst = append(append(w.dst, `{"content":`...), m.Content...)
		w.dst = matrix.AppendString(append(w.dst, `,"sender":`...), m.Sender)
		w.dst = append(matrix.AppendString(append(w.dst, `,"type":`...), m.Type), '}')
	}
	w.text(`]`)
}

// deviceLists appends the lists of devices, but empty halves.
func (w *writer) deviceLists() {
	w.text(`"device_lists":{`)
	if len(w.met) > 0 {
		w.text(`"changed":`)
		w.strings(w.met)
	}
	if len(w.met) > 0 && len(w.parted) > 0 {
		w.text(`,`)
	}
	if len(w.parted) > 0 {
		w.text(`"left":`)
		w.strings(w.parted)
	}
	w.text(`}`)
}

// keyCounts appends the numbers of the device's keys.
func (w *writer) keyCounts() {
	w.text(`"device_one_time_keys_count":{`)
	counts := keys.Counted(w.counts.OneTime)
	for i, algorithm := range slices.Sorted(maps.Keys(counts)) {
		w.comma(i)
		w.dst = append(matrix.AppendString(w.dst, algorithm), ':')
		w.dst = strconv.AppendInt(w.dst, counts[algorithm], 10)
	}
	w.text(`},"device_unused_fallback_key_types":`)
	w.strings(w.counts.Unused)
}

func (w *writer) strings(list []string) {
	w.text(`[`)
	for i, s := range list {
		w.comma(i)
		w.dst = matrix.AppendString(w.dst, s)
	}
	w.text(`]`)
}
