package outbound

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// giveUpSilent ends a connection whose other end has acknowledged nothing for silence:
// packets may vanish without anybody saying so, and the system would go on for a quarter of
// an hour.
func giveUpSilent(conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	})
	if err == nil {
		err = failed
	}
	return err
}
