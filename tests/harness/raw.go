package harness

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Dial opens a connection to the server, for input that no HTTP client would send. It
// is closed at the end of the test, and no read or write on it waits for longer than a
// minute.
func (s *Server) Dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may have closed it
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Raw sends bytes over a connection of their own and gives the answers until the server
// closes the connection, or until it is quiet after the last answer.
func (s *Server) Raw(t testing.TB, text string) []*http.Response {
	t.Helper()
	conn := s.Dial(t)
	// What the server does not read because it refuses it is no fault of the write.
	_, _ = io.WriteString(conn, text)
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var all []*http.Response
	for reader := bufio.NewReader(conn); ; {
		r, err := http.ReadResponse(reader, nil)
		if err != nil {
			return all
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return all
		}
		all = append(all, r)
	}
}
