package federation_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"beep/federation/remote"
	"beep/outbound"
	"beep/outbound/outboundtest"
	"beep/storage/storagetest"
	"beep/web"
)

// Two servers that show each other certificates of the same authority understand each
// other; who has none, or another's, gets no answer at all.
func TestMutualTLS(t *testing.T) {
	s := newServer(t, storagetest.Open(t, storagetest.SQLiteURL(t)), options{})
	ministries, strangers := outboundtest.NewCA(t), outboundtest.NewCA(t)
	certificate, key := ministries.Files(t, "127.0.0.1")
	listener, err := web.Listen(t.Context(), web.ServerOptions{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Listeners: []web.Listener{
		{Address: "127.0.0.1:0", Handler: s.handler, CertFile: certificate, KeyFile: key, ClientCAFile: ministries.File},
	}})
	s.check(err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- listener.Run(ctx) }()
	ask := func(files ...string) error {
		dialer, err := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		s.check(err)
		tls := outbound.TLSOptions{CAFiles: []string{ministries.File}}
		if len(files) > 0 {
			tls.CertificateFile, tls.KeyFile = files[0], files[1]
		}
		dialer, err = dialer.WithTLS(tls)
		s.check(err)
		client, err := remote.New(remote.Options{Signer: newSigner("ministry.example", 1), Dialer: dialer, UserAgent: "beep/test"})
		s.check(err)
		defer client.Close()
		_, version, err := client.Version(t.Context(), listener.Addrs()[0].String())
		if err == nil && version != "1.2.3" {
			t.Errorf("the version is %q", version)
		}
		return err
	}
	ours, ourKey := ministries.Files(t, "ministry.example")
	theirs, theirKey := strangers.Files(t, "ministry.example")
	s.check(ask(ours, ourKey))
	for _, files := range [][]string{{}, {theirs, theirKey}} {
		if _, unreachable := errors.AsType[*remote.UnreachableError](ask(files...)); !unreachable {
			t.Errorf("with the certificate %q: %v", files, ask(files...))
		}
	}
	stop()
	s.check(<-ended)
}
