package harness

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// wire leads from the address of a server that others know to the one that it listens at. It
// can be cut.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]struct{}
}

func newWire(from, to int) (*wire, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from))
	if err != nil {
		return nil, err
	}
	w := &wire{listener: listener, to: fmt.Sprintf("127.0.0.1:%d", to), conns: map[net.Conn]struct{}{}}
	go w.run()
	return w, nil
}

func (w *wire) run() {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		to, err := net.Dial("tcp", w.to)
		if err != nil {
			from.Close()
			continue
		}
		if w.keep(from, to) {
			go w.pass(from, to)
			go w.pass(to, from)
		}
	}
}

// keep remembers connections, or closes them when the wire is cut.
func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.cut {
			c.Close()
		} else {
			w.conns[c] = struct{}{}
		}
	}
	return !w.cut
}

// pass copies until one side closes.
func (w *wire) pass(to, from net.Conn) {
	_, _ = io.Copy(to, from) // how it ends, the two ends are told by the end
	to.Close()
	from.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, to)
	delete(w.conns, from)
}

// set cuts the wire, or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; cut {
		for c := range w.conns {
			c.Close()
		}
	}
}

// close ends the wire, if there is one.
func (w *wire) close() error {
	if w == nil {
		return nil
	}
	w.set(true)
	return w.listener.Close()
}

// Cut keeps other servers from reaching this one. It needs [Options.Wired].
func (s *Server) Cut() { s.wire.set(true) }

// Mend ends what [Server.Cut] began.
func (s *Server) Mend() { s.wire.set(false) }
