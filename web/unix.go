package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

const defaultSocketMode = 0o660

// unixListener removes its socket when it is closed, by the name it was moved to.
type unixListener struct {
	*net.UnixListener
	path string
	addr net.Addr
}

// listenUnix takes path if nothing is there or if a socket is there that nobody
// listens on. The socket gets its permissions under another name, so that it never
// stands open to all.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if mode == 0 {
		mode = defaultSocketMode
	}
	if err := checkStale(ctx, path); err != nil {
		return nil, err
	}
	making := path + ".new"
	if err := checkStale(ctx, making); err != nil {
		return nil, err
	}
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: making, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := publishSocket(making, path, mode); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(making))
	}
	return &unixListener{l, path, &net.UnixAddr{Name: path, Net: "unix"}}, nil
}

func publishSocket(from, to string, mode fs.FileMode) error {
	if err := os.Chmod(from, mode); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// checkStale fails if path is in use by another server or by another kind of file.
func checkStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is not a socket", path)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("another server listens on %s", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return nil
}

// Addr is where clients find the socket.
func (l *unixListener) Addr() net.Addr { return l.addr }

// Close stops listening and removes the socket.
func (l *unixListener) Close() error {
	if err := l.UnixListener.Close(); err != nil {
		return err
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
