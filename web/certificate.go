package web

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// certificate is a key pair that follows its files.
type certificate struct {
	*followed
	current atomic.Pointer[tls.Certificate]
}

func newCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{}
	var err error
	c.followed, err = follow("certificate", logger, func() error {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err == nil {
			c.current.Store(&pair)
		}
		return err
	}, certFile, keyFile)
	return c, err
}

// get serves [tls.Config.GetCertificate].
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.look()
	return c.current.Load(), nil
}

// clientCA is who may vouch for clients: a file that is followed.
type clientCA struct {
	*followed
	current atomic.Pointer[tls.Config]
}

// newClientCA has clients show a certificate that the file's authorities have issued. The
// rest is as base has it.
func newClientCA(file string, base *tls.Config, logger *slog.Logger) (*clientCA, error) {
	base = base.Clone()
	base.ClientAuth = tls.RequireAndVerifyClientCert
	// A session that is taken up again would go on with the authorities of its start.
	base.SessionTicketsDisabled = true
	c := &clientCA{}
	var err error
	c.followed, err = follow("client_ca", logger, func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		config := base.Clone()
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("client_ca: %s has no certificate in PEM", file)
		}
		c.current.Store(config)
		return nil
	}, file)
	return c, err
}

// config serves [tls.Config.GetConfigForClient].
func (c *clientCA) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.look()
	return c.current.Load(), nil
}
