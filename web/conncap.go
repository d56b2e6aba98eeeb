package web

import (
	"io"
	"net"
	"net/netip"
	"sync"
)

// connCap counts the open connections of each address.
type connCap struct {
	most     int
	uncapped proxies

	mu   sync.Mutex
	open map[netip.Prefix]int
}

func newConnCap(most int, uncapped []netip.Prefix) *connCap {
	if most <= 0 {
		return nil
	}
	return &connCap{most: most, uncapped: proxies{prefixes: uncapped}, open: make(map[netip.Prefix]int)}
}

// enter counts one more connection, if there may be one.
func (c *connCap) enter(from netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[from] >= c.most {
		return false
	}
	c.open[from]++
	return true
}

func (c *connCap) leave(from netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[from]--; c.open[from] == 0 {
		delete(c.open, from)
	}
}

// cappedListener closes the connections above the cap at once, before any of their
// bytes is read.
type cappedListener struct {
	net.Listener
	cap *connCap
}

// Accept gives the next connection within the cap.
func (l cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr, ok := peer(conn.RemoteAddr().String())
		if !ok || l.cap.uncapped.trusts(addr) {
			return conn, nil
		}
		from := network(addr)
		if l.cap.enter(from) {
			return &cappedConn{Conn: conn, leave: sync.OnceFunc(func() { l.cap.leave(from) })}, nil
		}
		_ = conn.Close() // over the cap: how the closing went is of no interest
	}
}

// cappedConn leaves the count when it is closed.
type cappedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection; only the first call counts.
func (c *cappedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// ReadFrom keeps the kernel's short way from a file to the network open.
func (c *cappedConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }
