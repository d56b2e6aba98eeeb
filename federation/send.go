package federation

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"beep/federation/remote"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/web"
)

const (
	// roomsAtOnce is how many rooms' events of one transaction are worked on at the same
	// time.
	roomsAtOnce = 4
	// transactionTime bounds the work on a transaction, which goes on when the other
	// server no longer waits: it will send the same again.
	transactionTime = 10 * time.Minute
	// maxTxnID bounds the id of a transaction, in bytes.
	maxTxnID = 255
)

type sendRequest struct {
	TxnID string `path:"txnID"`
}

// transaction is the body of PUT /send (server-server API, "Transactions").
type transaction struct {
	PDUs []jsontext.Value `json:"pdus"`
	EDUs []jsontext.Value `json:"edus"`
}

// results is the answer to a transaction, as JSON.
type results []byte

// AppendJSON serves package web.
func (r results) AppendJSON(dst []byte) []byte { return append(dst, r...) }

// result is what became of a PDU.
type result struct {
	Error string `json:"error,omitzero"`
}

// send is PUT /send/{txnId}. What one PDU lacks counts against that one alone. A
// transaction that was answered before gets the same answer again.
func (a *API) send(ctx context.Context, who *Origin, req *sendRequest) (*results, error) {
	t, err := readTransaction(who.Content, req.TxnID)
	if err != nil {
		return nil, err
	}
	done, err := a.turns.take(ctx, who.Server)
	if err != nil {
		return nil, err
	}
	defer done()
	known, err := a.DB.ReceivedAnswer(ctx, who.Server, req.TxnID)
	if !errors.Is(err, storage.ErrNotFound) {
		return (*results)(&known), err
	}
	ctx, cancel := untilShutdown(ctx)
	defer cancel()
	edus := a.readEDUs(t.EDUs)
	if err := a.takeEDUs(ctx, who.Server, edus.first); err != nil {
		return nil, err
	}
	pdus, err := a.takePDUs(ctx, who.Server, t.PDUs)
	if err != nil {
		return nil, err
	}
	if err := a.takeEDUs(ctx, who.Server, edus.then); err != nil {
		return nil, err
	}
	answer, err := json.Marshal(map[string]any{"pdus": pdus})
	if err == nil && (len(t.PDUs) > 0 || edus.lasting) {
		err = a.DB.Write(ctx, func(tx *storage.Tx) error {
			return tx.AddReceived(ctx, who.Server, req.TxnID, time.Now().UnixMilli(), answer)
		})
	}
	return (*results)(&answer), err
}

func readTransaction(content []byte, txnID string) (*transaction, error) {
	t := &transaction{}
	err := json.Unmarshal(content, t)
	switch {
	case len(content) == 0:
		return nil, matrix.NotJSON.With("The request has no body")
	case content[0] != '{' || err != nil:
		return nil, matrix.BadJSON.With("pdus and edus must be arrays").Because(err)
	case len(t.PDUs) > remote.MaxPDUs || len(t.EDUs) > remote.MaxEDUs:
		return nil, matrix.InvalidParam.Withf("A transaction has at most %d PDUs and %d EDUs", remote.MaxPDUs, remote.MaxEDUs)
	case len(txnID) > maxTxnID:
		return nil, matrix.InvalidParam.Withf("A transaction's id has at most %d bytes", maxTxnID)
	}
	return t, nil
}

// untilShutdown lets work go on when nobody waits for it any more, but not when the
// server is to stop.
func untilShutdown(ctx context.Context) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTime)
	stopping := web.ShuttingDown(ctx)
	go func() {
		select {
		case <-stopping:
			cancel()
		case <-inner.Done():
		}
	}()
	return inner, cancel
}

// roomPDUs are those of a transaction's PDUs that are of one room.
type roomPDUs struct {
	room *roomserver.ServedRoom
	ids  []string
	raws []stdjson.RawMessage
}

// takePDUs gives what became of each PDU, by event id. Such as name no room that is
// known here, or are no events, have no id that could be told, and are left out.
func (a *API) takePDUs(ctx context.Context, origin string, pdus []jsontext.Value) (map[string]result, error) {
	rooms, err := a.byRoom(ctx, origin, pdus)
	if err != nil {
		return nil, err
	}
	told := make([][]error, len(rooms))
	var work errgroup.Group
	work.SetLimit(roomsAtOnce)
	for i, r := range rooms {
		work.Go(func() (err error) {
			told[i], err = a.receive(ctx, origin, r)
			return err
		})
	}
	if err := errors.Join(work.Wait(), ctx.Err()); err != nil {
		// The other server sends all of them again; those that were taken in are known then.
		if told, ok := errors.AsType[*matrix.Error](err); ok {
			return nil, told
		}
		return nil, matrix.ServiceUnavailable.Because(err)
	}
	all := make(map[string]result, len(pdus))
	for i, r := range rooms {
		for n, id := range r.ids {
			all[id] = resultOf(told[i][n])
		}
	}
	return all, nil
}

// byRoom sorts PDUs by their rooms, in their order within each.
func (a *API) byRoom(ctx context.Context, origin string, pdus []jsontext.Value) ([]*roomPDUs, error) {
	roomIDs := make([]string, len(pdus))
	for i, raw := range pdus {
		var pdu struct {
			RoomID string `json:"room_id"`
		}
		if json.Unmarshal(raw, &pdu) == nil {
			roomIDs[i] = pdu.RoomID
		}
	}
	if err := a.Rooms.AwaitJoins(ctx, roomIDs); err != nil {
		return nil, matrix.ServiceUnavailable.Because(err)
	}
	known, err := a.Serving.Rooms(ctx, origin, roomIDs)
	if err != nil {
		return nil, err
	}
	byID := map[string]*roomPDUs{}
	var rooms []*roomPDUs
	for i, raw := range pdus {
		room := known[roomIDs[i]]
		if room == nil {
			continue
		}
		e, err := matrix.Parse(room.Version, raw)
		if err != nil {
			web.Logger(ctx).Debug("another server sent what is no event", "room", room.ID, "error", err)
			continue
		}
		r := byID[room.ID]
		if r == nil {
			r = &roomPDUs{room: room}
			byID[room.ID] = r
			rooms = append(rooms, r)
		}
		r.ids, r.raws = append(r.ids, e.ID), append(r.raws, stdjson.RawMessage(raw))
	}
	return rooms, nil
}

// receive hands the events of one room over, and gives an error or nil for each. The second
// error says that they are to be sent again.
func (a *API) receive(ctx context.Context, origin string, r *roomPDUs) ([]error, error) {
	if r.room.Denied {
		return r.refused(matrix.Forbidden.With("Your server is denied access to the room by its server ACL")), nil
	}
	errs, err := a.guarded(ctx, origin, r)
	if err != nil && ctx.Err() == nil {
		web.Logger(ctx).Warn("events of another server cannot be taken in yet", "room", r.room.ID, "server", origin, "error", err)
	}
	return errs, err
}

// refused is one error for all events.
func (r *roomPDUs) refused(err error) []error { return slices.Repeat([]error{err}, len(r.ids)) }

// guarded calls the room server. It runs in a goroutine of its own: what one room's
// events make panic must not end the process, and is not to be sent again.
func (a *API) guarded(ctx context.Context, origin string, r *roomPDUs) (errs []error, err error) {
	defer func() {
		if p := recover(); p != nil {
			panicked := fmt.Errorf("panic: %v\n%s", p, bytes.TrimSpace(debug.Stack()))
			web.Logger(ctx).Error("events of another server were not taken in", "room", r.room.ID, "server", origin, "error", panicked)
			errs, err = r.refused(panicked), nil
		}
	}()
	return a.Rooms.Receive(ctx, origin, r.room.ID, r.raws)
}

func resultOf(err error) result {
	var told *matrix.Error
	switch {
	case err == nil:
		return result{}
	case errors.As(err, &told) && told.Message != "":
		return result{told.Message}
	default:
		return result{"The server could not take in the event"}
	}
}
