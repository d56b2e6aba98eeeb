package sender

import (
	"context"
	"strconv"
	"time"

	"beep/federation/remote"
	"beep/storage"
	"beep/stream"
)

const (
	// linger is how long news wait for more of their kind when nothing else is to be sent.
	linger = 100 * time.Millisecond
	// maxBacklog bounds the events that are looked up at once, by position.
	maxBacklog = 5000
	// databasePause is after an error of the database.
	databasePause = 5 * time.Second
)

// start gives the destination a worker as soon as there is one. It is called with mu held,
// like everything here that does not say otherwise.
func (s *Sender) start(ctx context.Context, d *destination) {
	d.busy, d.retry = true, time.Time{}
	d.lane = &s.doubtful
	if d.failures == 0 && s.reached.Contains(d.server) {
		d.lane = &s.lively
	}
	d.lane.waiting = append(d.lane.waiting, d)
	s.launch(ctx, d.lane)
}

// launch starts those whose turn it is.
func (s *Sender) launch(ctx context.Context, l *lane) {
	for l.free > 0 && len(l.waiting) > 0 && ctx.Err() == nil {
		d := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		l.free--
		s.workers.Go(func() { s.work(ctx, d) })
	}
}

// end is the end of the destination's worker.
func (s *Sender) end(ctx context.Context, d *destination) {
	d.busy = false
	d.lane.free++
	s.launch(ctx, d.lane)
}

// work sends until there is nothing left, or the server fails. It is called without mu.
func (s *Sender) work(ctx context.Context, d *destination) {
	for {
		t := s.next(ctx, d)
		if t == nil {
			return
		}
		results, err := s.send(ctx, d.server, &t.Transaction)
		if !s.settle(ctx, d, results, err) {
			return
		}
	}
}

// next is the transaction to send; nil when the worker has come to its end. It is called
// without mu.
func (s *Sender) next(ctx context.Context, d *destination) *transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.transaction != nil {
		return d.transaction
	}
	for waited := false; ctx.Err() == nil; {
		switch {
		case d.adrift:
			d.adrift, d.from = false, s.read // from now on it has a queue
		case d.cursor < d.from:
			t, err := s.look(ctx, d)
			if err != nil {
				s.pause(ctx, d, err)
				return nil
			}
			if t.kept > 0 {
				return s.seal(d, t)
			}
			s.pass(d, t.end)
		case len(d.queue) > 0:
			return s.seal(d, d.dequeue(s.read))
		case d.news.size() == 0:
			s.rest(d)
			s.end(ctx, d)
			return nil
		case !waited:
			waited = true
			s.wait(ctx, d)
		default:
			return s.seal(d, &transaction{end: s.read})
		}
	}
	s.end(ctx, d)
	return nil
}

// rest is when there is nothing left to be sent. It is not forgotten how often a server
// has failed: news alone would have it tried as if nothing had been.
func (s *Sender) rest(d *destination) {
	if d.failures == 0 || d.lost(time.Now()) {
		delete(s.destinations, d.server)
		return
	}
	d.cursor = s.read
	d.cast()
	d.retry = time.Now().Add(s.delay(d.server, d.failures))
}

// wait gives more news a little time, unless something comes that is worth more.
func (s *Sender) wait(ctx context.Context, d *destination) {
	select {
	case <-d.wake: // from before
	default:
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.wake:
	case <-ctx.Done():
	}
}

// seal makes the transaction the one that is sent now, with the news that fit in. They do
// not get in the way of the search for what a server refuses.
func (s *Sender) seal(d *destination, t *transaction) *transaction {
	now := time.Now()
	if d.most == 0 || t.kept == 0 {
		t.EDUs = d.news.take(t.EDUs, remote.MaxEDUs, now)
	}
	s.sent++
	t.ID = s.id + strconv.FormatInt(s.sent, 10)
	t.OriginServerTS = now.UnixMilli()
	d.transaction = t
	return t
}

// pass notes that the server has everything up to a position.
func (s *Sender) pass(d *destination, pos stream.Pos) {
	d.cursor = pos
	if !d.adrift && d.cursor >= d.from {
		d.brief = false
	}
}

// look reads the next transaction from the database. Mu is not held meanwhile.
func (s *Sender) look(ctx context.Context, d *destination) (*transaction, error) {
	after, upTo, brief := d.cursor, d.from, d.brief
	s.mu.Unlock()
	defer s.mu.Lock()
	if d.covers <= after {
		if err := s.survey(ctx, d, after, upTo, brief); err != nil {
			return nil, err
		}
	}
	events, end := d.backlog, d.covers
	if len(events) > remote.MaxPDUs {
		events = events[:remote.MaxPDUs]
		end = events[len(events)-1].At
	}
	edus, err := s.db.OutgoingEDUs(ctx, d.server, after, end, remote.MaxEDUs)
	if err != nil {
		return nil, err
	}
	if len(edus) == remote.MaxEDUs {
		end = edus[len(edus)-1].Pos
	}
	var positions []int64
	for _, e := range events {
		if e.At <= end {
			positions = append(positions, int64(e.Pos))
		}
	}
	pdus, err := s.db.PDUs(ctx, positions)
	if err != nil {
		return nil, err
	}
	t := assemble(pdus, edus, end, d.most)
	for len(d.backlog) > 0 && d.backlog[0].At <= t.end {
		d.backlog = d.backlog[1:]
	}
	return t, nil
}

// survey finds which events are for the server after a position.
func (s *Sender) survey(ctx context.Context, d *destination, after, upTo stream.Pos, brief bool) error {
	p := storage.Pending{Own: s.own, Server: d.server, After: after, UpTo: upTo, Limit: maxBacklog}
	if brief {
		p.PerRoom = perRoom
	}
	events, err := s.db.PendingEvents(ctx, p)
	if err != nil {
		return err
	}
	d.backlog, d.covers = events, upTo
	if len(events) == maxBacklog {
		d.covers = events[len(events)-1].At
	}
	return nil
}

// assemble makes a transaction of events and EDUs, each in their order, which are all that
// is for the server up to end; of at most so many, if most is not 0.
func assemble(pdus []storage.PDU, edus []storage.OutgoingEDU, end stream.Pos, most int) *transaction {
	t := &transaction{end: end, queued: true}
	for len(pdus) > 0 || len(edus) > 0 {
		var next item
		if len(edus) == 0 || len(pdus) > 0 && pdus[0].At < edus[0].Pos {
			next = item{pos: pdus[0].At, json: pdus[0].JSON, ts: pdus[0].OriginServerTS}
			pdus = pdus[1:]
		} else {
			next = item{pos: edus[0].Pos, json: edu(edus[0].Type, []byte(edus[0].Content)), edu: true}
			edus = edus[1:]
		}
		t.add(next)
		if t.kept == most {
			if len(pdus) > 0 || len(edus) > 0 {
				t.end = next.pos
			}
			break
		}
	}
	return t
}

// pause leaves the destination alone while the database cannot be read.
func (s *Sender) pause(ctx context.Context, d *destination, err error) {
	if ctx.Err() == nil {
		s.log.Error("what is to be sent to another server could not be read", "server", d.server, "error", err)
	}
	d.forget()
	d.retry = time.Now().Add(databasePause)
	s.end(ctx, d)
}
