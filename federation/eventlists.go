package federation

import (
	"bytes"
	"context"
	"io"

	"beep/matrix"
	"beep/web"
)

// listedAtOnce is how many events of a list are in memory at the same time.
const listedAtOnce = 200

// eventList is a member of an answer that is a list of events.
type eventList struct {
	name      string
	positions []int64 // for [roomserver.Serving.Load]
}

// eventLists is an answer whose members are lists of events. They are read while they
// are sent, so that the state of a large room is never in memory as a whole.
func (a *API) eventLists(ctx context.Context, lists ...eventList) *web.Raw {
	r := &listReader{lists: lists, load: func(positions []int64) ([]*matrix.Event, error) { return a.Serving.Load(ctx, positions) }}
	r.text.WriteByte('{')
	return &web.Raw{ContentType: "application/json", Content: r, Size: -1}
}

type listReader struct {
	load  func(positions []int64) ([]*matrix.Event, error)
	lists []eventList // what is left
	text  bytes.Buffer
	begun bool // the first of the lists has
	first bool // no event of it has been written
}

// Read serves [io.Reader].
func (r *listReader) Read(p []byte) (int, error) {
	for r.text.Len() == 0 {
		if r.lists == nil {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	return r.text.Read(p)
}

// next writes some more.
func (r *listReader) next() error {
	if len(r.lists) == 0 {
		r.lists = nil
		return r.text.WriteByte('}')
	}
	list := &r.lists[0]
	if !r.begun {
		r.begun, r.first = true, true
		r.text.WriteString(`"` + list.name + `":[`)
	}
	n := min(len(list.positions), listedAtOnce)
	events, err := r.load(list.positions[:n])
	if err != nil {
		return err
	}
	for _, e := range events {
		if !r.first {
			r.text.WriteByte(',')
		}
		r.first = false
		r.text.Write(e.JSON)
	}
	if list.positions = list.positions[n:]; len(list.positions) == 0 {
		r.text.WriteByte(']')
		if r.lists, r.begun = r.lists[1:], false; len(r.lists) > 0 {
			r.text.WriteByte(',')
		}
	}
	return nil
}
