// Package outboundtest has what tests and the demo need around a connection: a certificate authority
// and a DNS server, both real.
package outboundtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	// File has its certificate, in PEM.
	File string

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// lifetime is how long the certificates are valid: some days, for who leaves a demo running.
const lifetime = 30 * 24 * time.Hour

// NewCA makes an authority for a test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca, err := MakeCA(filepath.Join(t.TempDir(), "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// MakeCA makes an authority and writes its certificate into a file. Nothing has its key but
// this process.
func MakeCA(file string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{File: file, certificate: certificate, key: key}, writePEM(file, "CERTIFICATE", der)
}

// Certificate makes a certificate for DNS names and IP addresses, for servers and clients.
func (ca *CA) Certificate(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	certificate, err := ca.issue(names)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func (ca *CA) issue(names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, &key.PublicKey, ca.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Files writes such a certificate and its key into files, in PEM.
func (ca *CA) Files(t testing.TB, names ...string) (certificateFile, keyFile string) {
	t.Helper()
	certificateFile, keyFile, err := ca.WriteFiles(t.TempDir(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return certificateFile, keyFile
}

// WriteFiles is [CA.Files] into a directory.
func (ca *CA) WriteFiles(dir string, names ...string) (certificateFile, keyFile string, err error) {
	certificate, err := ca.issue(names)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return "", "", err
	}
	certificateFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(writePEM(certificateFile, "CERTIFICATE", certificate.Certificate[0]), writePEM(keyFile, "PRIVATE KEY", der))
	return certificateFile, keyFile, err
}

// Pool has the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	return pool
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
