package sender

import (
	"errors"
	"hash/fnv"
	"math"
	"net/http"
	"strconv"
	"time"

	"beep/federation/remote"
)

const (
	// firstDelay is after the first failure; each further one makes it a little longer, so
	// that it is about an eighth of the time that the server has been away.
	firstDelay = time.Second
	growth     = 1.15
	// usualDelay is where the delay stays for two days, manyFailures altogether: networks
	// that were apart for a night are together again minutes after they can be.
	usualDelay   = 8 * time.Minute
	manyFailures = 400
	maxDelay     = 4 * time.Hour
	// soon is how often a server is tried in its first hour while no connection to it comes
	// about, and soonEach what every server adds to that for which something waits: those that
	// were apart for minutes are together again seconds after they can be, and when many are
	// away none is tried often.
	soon     = 5 * time.Second
	soonEach = 500 * time.Millisecond
	// aliveGap is the least time between two attempts that a server's own requests cause.
	aliveGap = 2 * time.Second
)

// delay is how long a server is left alone after so many failures in a row. The same
// failure of other servers has another delay, so that they do not all come back at once.
func (s *Sender) delay(server string, failures int64) time.Duration {
	d := min(float64(firstDelay)*math.Pow(growth, float64(failures-1)), float64(usualDelay))
	if failures > manyFailures {
		d = min(d*math.Pow(growth, float64(failures-manyFailures)), float64(maxDelay))
	}
	h := fnv.New32a()
	h.Write([]byte(s.own + " " + server + " " + strconv.FormatInt(failures, 10)))
	return time.Duration(d * (0.8 + 0.4*float64(h.Sum32())/math.MaxUint32))
}

// postpone says when a server that has failed is tried again. The delays grow with the failures;
// attempts in between, which cost the other side nothing as they do not reach it, do not count.
func (s *Sender) postpone(d *destination, now time.Time, err error) {
	if !now.Before(d.next) {
		d.failures++
		d.next = now.Add(s.delay(d.server, d.failures))
	}
	if until := now.Add(asked(err)); until.After(d.next) {
		d.next = until
	}
	d.retry = d.next
	early := now.Add(max(soon, time.Duration(len(s.destinations))*soonEach))
	if _, unreachable := errors.AsType[*remote.UnreachableError](err); unreachable && d.failures < longAway && early.Before(d.retry) {
		d.retry = early
	}
}

// asked is how long the server wants to be left alone.
func asked(err error) time.Duration {
	if peer, ok := errors.AsType[*remote.PeerError](err); ok {
		return min(peer.RetryAfter, maxDelay)
	}
	return 0
}

// unwanted tells whether the server understood a transaction and says that it is at fault
// as it is: to send it again is useless. A status alone may be that of something in between.
func unwanted(err error) bool {
	peer, ok := errors.AsType[*remote.PeerError](err)
	return ok && peer.Code != "" && (peer.Status == http.StatusBadRequest || peer.Status == http.StatusRequestEntityTooLarge)
}
