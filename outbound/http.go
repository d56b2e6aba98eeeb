package outbound

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// maxAnswerHeader bounds the header of an answer, in bytes.
	maxAnswerHeader = 64 << 10
	// idleTimeout is how long a connection is kept for the next request.
	idleTimeout = 90 * time.Second
)

// Client is an HTTP client. An exchange may take timeout, redirects and the answer's
// body included. It follows so many redirects, none from https to http; what
// comes then is an error, but with redirects 0 a redirect is an answer like any other.
// Make one and keep it: it holds connections.
func (d *Dialer) Client(timeout time.Duration, redirects int) *http.Client {
	return &http.Client{
		Timeout:   timeout,
		Transport: d.transport(),
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			switch {
			case redirects == 0:
				return http.ErrUseLastResponse
			case len(before) > redirects:
				return fmt.Errorf("outbound: more than %d redirects", redirects)
			case before[0].URL.Scheme == "https" && next.URL.Scheme != "https":
				return fmt.Errorf("outbound: a redirect from https to %s", next.URL.Scheme)
			}
			return nil
		},
	}
}

// transport has no Proxy: the dialer goes through one where there is one, and the
// environment has no say.
func (d *Dialer) transport() *http.Transport {
	return &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        d.tls.Clone(),
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// ErrTooLarge ends the reading of a body beyond its limit.
var ErrTooLarge = errors.New("outbound: the answer is too large")

// Limit is a reader that fails with [ErrTooLarge] if there are more than n bytes.
func Limit(r io.Reader, n int64) io.Reader { return &limited{r, n} }

type limited struct {
	from io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.from.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
