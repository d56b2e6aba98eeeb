package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
)

// sessions is how many TLS sessions are kept, so that a second connection to a server
// costs less than the first.
const sessions = 256

// TLSOptions say whom a dialer trusts, and who it says it is.
type TLSOptions struct {
	// CAFiles are files of certificates, in PEM, whose owners may vouch for any server.
	CAFiles []string
	// OnlyCAFiles takes the trust from everybody else, the system's authorities too.
	OnlyCAFiles bool
	// CertificateFile and KeyFile are the certificate, in PEM, that is shown to servers
	// that ask for one. They are read whenever one does, so that they may be renewed.
	CertificateFile, KeyFile string
}

// trust is whom a dialer trusts.
type trust struct {
	files      []string
	withSystem bool
}

// WithTLS is a dialer to the same networks with other trust. Its CA files come beside
// those of d, or in the place of all with OnlyCAFiles.
func (d *Dialer) WithTLS(o TLSOptions) (*Dialer, error) {
	derived := *d
	derived.trust = trust{slices.Concat(d.trust.files, o.CAFiles), true}
	if o.OnlyCAFiles {
		derived.trust = trust{o.CAFiles, false}
	}
	roots, err := derived.trust.roots()
	if err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	derived.tls = &tls.Config{
		RootCAs:            roots,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
	}
	if o.CertificateFile == "" {
		return &derived, nil
	}
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.CertificateFile, o.KeyFile)
		return &pair, err
	}
	if _, err := show(nil); err != nil {
		return nil, fmt.Errorf("outbound: the client certificate: %w", err)
	}
	derived.tls.GetClientCertificate = show
	// A session that is taken up again goes on with the certificate of its start.
	derived.tls.ClientSessionCache = nil
	return &derived, nil
}

// roots is the pool of authorities.
func (t trust) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if t.withSystem {
		system, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		pool = system
	}
	for _, name := range t.files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM", name)
		}
	}
	return pool, nil
}
