package sender

import (
	"encoding/json"
	"time"

	"beep/federation/remote"
	"beep/storage"
	"beep/stream"
)

const (
	// maxQueue and maxQueueBytes bound what a destination has in memory besides the
	// transaction under way.
	maxQueue      = 2 * remote.MaxPDUs
	maxQueueBytes = 1 << 20
	// patience is how many failures in a row a transaction is kept in memory for. It is
	// tried again under its id all that time; later ones are made anew from the database.
	patience = 10
	// longAway is how many failures in a row mean that a server was away for long, about an
	// hour or more: it gets the newest events of each room only, and fetches the others.
	longAway = 45
	// perRoom is how many events of a room such a server gets.
	perRoom = 50
)

// destination is a server that something is to be sent to, or that could not be reached.
// What is not said to be the worker's belongs to Sender.mu.
type destination struct {
	server string
	cursor stream.Pos // everything up to here was sent

	// queue has what is for the server after from, in order; what lies between cursor and
	// from is in the database. While adrift it has nothing: all after cursor is there.
	queue  []item
	bytes  int
	from   stream.Pos
	adrift bool
	brief  bool // of what is in the database the newest events do
	news   news

	busy bool // it has a worker, or is in a lane
	lane *lane
	wake chan struct{} // has an item when something came while busy

	failures int64     // in a row, but for early attempts
	next     time.Time // until then attempts are early, and do not count
	tried    time.Time // when the last one was
	failing  time.Time // since when it fails; zero when it does not
	retry    time.Time // not before; zero when nothing speaks against trying

	// The worker's.
	transaction *transaction // under way or to be sent again
	most        int          // how much may be in a transaction; 0: as much as usual
	backlog     []storage.PendingEvent
	covers      stream.Pos // what is for the server after cursor up to here is in backlog
}

// item is an event or an EDU on its way.
type item struct {
	pos    stream.Pos
	json   json.RawMessage
	edu    bool
	ts     int64 // of an event, ms
	queued bool  // it may have a row that has to go once the server has it
}

// transaction is what is sent at once.
type transaction struct {
	remote.Transaction
	end    stream.Pos // everything up to here was sent when the server has it
	kept   int        // how many of its parts are sent until they arrive
	queued bool       // one of them may have a row
	oldest int64      // origin_server_ts of its first event, ms
}

// add takes an item in, if there is room.
func (t *transaction) add(i item) bool {
	switch {
	case i.edu && len(t.EDUs) < remote.MaxEDUs:
		t.EDUs = append(t.EDUs, i.json)
	case !i.edu && len(t.PDUs) < remote.MaxPDUs:
		if len(t.PDUs) == 0 {
			t.oldest = i.ts
		}
		t.PDUs = append(t.PDUs, i.json)
	default:
		return false
	}
	t.kept++
	t.queued = t.queued || i.queued
	return true
}

// restored is a destination as its row has it.
func restored(row storage.Destination, now time.Time) *destination {
	d := &destination{server: row.Server, cursor: row.Cursor, failures: row.Failures, brief: row.Failures >= longAway,
		wake: make(chan struct{}, 1), retry: now}
	if row.Failing != 0 {
		d.failing = time.UnixMilli(row.Failing)
	}
	// A clock that was wrong when the row was written must not silence the server.
	if at := time.UnixMilli(row.RetryTS); at.After(now) && at.Before(now.Add(2*maxDelay)) {
		d.retry = at
	}
	return d
}

// row is what the database has to know.
func (d *destination) row() storage.Destination {
	row := storage.Destination{Server: d.server, Cursor: d.cursor, Failures: d.failures}
	if !d.retry.IsZero() {
		row.RetryTS = d.retry.UnixMilli()
	}
	if !d.failing.IsZero() {
		row.Failing = d.failing.UnixMilli()
	}
	return row
}

// destination finds a destination, or makes one that was sent everything that the reader
// has read.
func (s *Sender) destination(server string) *destination {
	d := s.destinations[server]
	if d == nil {
		d = &destination{server: server, cursor: s.read, from: s.read, wake: make(chan struct{}, 1)}
		s.destinations[server] = d
	}
	return d
}

// push queues an item, or leaves it to the database.
func (d *destination) push(i item) {
	if d.adrift {
		return
	}
	if len(d.queue) == maxQueue || d.bytes+len(i.json) > maxQueueBytes {
		d.cast()
		return
	}
	d.queue = append(d.queue, i)
	d.bytes += len(i.json)
}

// cast leaves the queue to the database.
func (d *destination) cast() { d.queue, d.bytes, d.adrift = nil, 0, true }

// forget leaves everything to the database.
func (d *destination) forget() {
	d.cast()
	d.transaction, d.backlog, d.covers = nil, nil, 0
}

// dequeue makes a transaction of what is queued. Read is how far the log was read.
func (d *destination) dequeue(read stream.Pos) *transaction {
	t := &transaction{end: read}
	n := 0
	for n < len(d.queue) && t.add(d.queue[n]) {
		d.bytes -= len(d.queue[n].json)
		n++
	}
	if n < len(d.queue) {
		t.end = d.queue[n-1].pos
	}
	clear(d.queue[copy(d.queue, d.queue[n:]):])
	d.queue = d.queue[:len(d.queue)-n]
	return t
}

// lane bounds the workers of one sort of servers.
type lane struct {
	free    int
	waiting []*destination
}
