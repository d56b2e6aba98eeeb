package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	headerTime     = 10 * time.Second
	idleTime       = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	drainTime      = 10 * time.Second
)

// Listener is one place to serve at.
type Listener struct {
	// Address is host:port, where port 0 takes a free one, or "unix:" and a path.
	Address string
	// CertFile and KeyFile are PEM files; with them the listener speaks TLS and HTTP/2.
	// They are read again when they change.
	CertFile, KeyFile string
	// ClientCAFile has certificates, in PEM; with it clients have to show a certificate that
	// the owner of one of them has issued. It is read again when it changes.
	ClientCAFile string
	// SocketMode are the permissions of a unix socket; 0 means 0660.
	SocketMode fs.FileMode
	Handler    http.Handler
}

// ServerOptions are what a [Server] is built from.
type ServerOptions struct {
	Listeners []Listener
	Logger    *slog.Logger
	// MaxConnsPerIP is how many TCP connections one address, or one /64, may hold open;
	// 0 means any number.
	MaxConnsPerIP int
	// Uncapped are addresses without that cap: proxies.
	Uncapped []netip.Prefix
	// DrainTime is how long requests may take to finish after the end was asked for; 0
	// means ten seconds.
	DrainTime time.Duration
}

// Server serves handlers at several listeners.
type Server struct {
	logger   *slog.Logger
	drain    time.Duration
	bound    []bound
	stopping chan struct{}
}

// bound is a listener that has its address.
type bound struct {
	net.Listener
	handler http.Handler
	tls     *tls.Config // nil: plain HTTP
}

// Listen binds all addresses and reads the certificates. Connections wait until
// [Server.Run].
func Listen(ctx context.Context, o ServerOptions) (*Server, error) {
	s := &Server{logger: o.Logger, drain: o.DrainTime, stopping: make(chan struct{})}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.drain == 0 {
		s.drain = drainTime
	}
	connections := newConnCap(o.MaxConnsPerIP, o.Uncapped)
	for _, l := range o.Listeners {
		b, err := s.bind(ctx, l, connections)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listening on %s: %w", l.Address, err), s.Close())
		}
		s.bound = append(s.bound, b)
	}
	return s, nil
}

func (s *Server) bind(ctx context.Context, l Listener, connections *connCap) (bound, error) {
	b := bound{handler: l.Handler}
	if l.CertFile != "" || l.KeyFile != "" {
		c, err := newCertificate(l.CertFile, l.KeyFile, s.logger)
		if err != nil {
			return bound{}, err
		}
		b.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}
	}
	if l.ClientCAFile != "" {
		if b.tls == nil {
			return bound{}, errors.New("client_ca needs a certificate of this server too")
		}
		ca, err := newClientCA(l.ClientCAFile, b.tls, s.logger)
		if err != nil {
			return bound{}, err
		}
		b.tls.GetConfigForClient = ca.config
	}
	var err error
	if path, ok := strings.CutPrefix(l.Address, "unix:"); ok {
		b.Listener, err = listenUnix(ctx, path, l.SocketMode)
		return b, err
	}
	var config net.ListenConfig
	b.Listener, err = config.Listen(ctx, "tcp", l.Address)
	if err == nil && connections != nil {
		b.Listener = cappedListener{b.Listener, connections}
	}
	return b, err
}

// Addrs are the addresses bound, in the order of the options.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.bound))
	for i, b := range s.bound {
		addrs[i] = b.Addr()
	}
	return addrs
}

// Close frees the addresses of a server that is not run.
func (s *Server) Close() error {
	var errs []error
	for _, b := range s.bound {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends or a listener fails. Then it takes no more connections,
// closes [ShuttingDown], lets requests finish for the drain time, and closes the rest.
// It is called once.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	base = context.WithValue(base, stoppingKey{}, (<-chan struct{})(s.stopping))
	group, ended := errgroup.WithContext(ctx)
	for _, b := range s.bound {
		server := s.httpServer(b, base)
		group.Go(func() error { return serve(server, b) })
		group.Go(func() error {
			<-ended.Done()
			return s.stop(server, cancel)
		})
	}
	group.Go(func() error {
		<-ended.Done()
		close(s.stopping)
		return nil
	})
	return group.Wait()
}

func (s *Server) httpServer(b bound, base context.Context) *http.Server {
	return &http.Server{
		Handler:           b.handler,
		TLSConfig:         b.tls,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.New(connectionLog{s.logger}, "", 0),
	}
}

func serve(server *http.Server, b bound) error {
	var err error
	if b.tls != nil {
		err = server.ServeTLS(b.Listener, "", "")
	} else {
		err = server.Serve(b.Listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving %s: %w", b.Addr(), err)
}

func (s *Server) stop(server *http.Server, cancel context.CancelFunc) error {
	drained, done := context.WithTimeout(context.Background(), s.drain)
	defer done()
	err := server.Shutdown(drained)
	if errors.Is(err, context.DeadlineExceeded) {
		s.logger.Warn("requests were cut off at shutdown")
		cancel()
		return server.Close()
	}
	return err
}

// connectionLog takes the lines that net/http writes. Broken handshakes are the noise
// of a public address; not so that a client lacks the certificate which it has to show.
type connectionLog struct{ logger *slog.Logger }

func (l connectionLog) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.Contains(line, []byte("TLS handshake error")) && !unproven(line) {
		level = slog.LevelDebug
	}
	l.logger.Log(context.Background(), level, "connection", "error", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// unproven tells whether a handshake has failed over the client's certificate.
func unproven(line []byte) bool {
	return bytes.Contains(line, []byte("client didn't provide a certificate")) || bytes.Contains(line, []byte("failed to verify certificate"))
}
