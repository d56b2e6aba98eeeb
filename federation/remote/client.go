package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/outbound"
)

const (
	// maxRefusal bounds the body of an answer other than 200, in bytes.
	maxRefusal = 64 << 10
	// maxAnswerHeader bounds the header of an answer, in bytes.
	maxAnswerHeader = 32 << 10
	// maxConnections bounds the connections to one server, so the answers from it
	// that are in memory too.
	maxConnections = 16
	// idleTimeout is how long a connection is kept for the next request.
	idleTimeout = 90 * time.Second
)

// Options are what a [Client] needs.
type Options struct {
	// Signer signs the requests.
	Signer *matrix.Signer
	// Dialer makes the connections; it knows which certificates are trusted.
	Dialer *outbound.Dialer
	// UserAgent names the program to other servers.
	UserAgent string
	// Gate, if not nil, is asked before anything is sent to a server, be it a question
	// to the DNS. Its error is what the caller of the request gets: a closed
	// federation refuses here, and so does whoever waits for a dead server to return.
	Gate func(ctx context.Context, server string) error
	// Done, if not nil, is told how each request ended that Gate let pass: nil,
	// [*PeerError], [*UnreachableError], [*AnswerError]. It is not told when the
	// caller's context ended first.
	Done func(server string, err error)
}

// Client sends requests to other servers in this server's name. It is safe for
// concurrent use, and keeps connections for the next requests.
type Client struct {
	options   Options
	resolver  *resolver
	transport *http.Transport
	files     *http.Transport // for files, which take long: nothing else waits behind them
	places    *http.Client    // for files that lie elsewhere
	large     budget
}

// New makes a client. Close it when done.
func New(o Options) (*Client, error) {
	resolver, err := newResolver(o.Dialer, time.Now)
	if err != nil {
		return nil, err
	}
	c := &Client{options: o, resolver: resolver, large: budget{most: maxLarge}}
	c.transport = &http.Transport{
		DialTLSContext:         c.dial,
		MaxConnsPerHost:        maxConnections,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	c.files, c.places = c.transport.Clone(), c.newPlaces()
	return c, nil
}

// Close closes the connections that are idle.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.files.CloseIdleConnections()
	c.places.CloseIdleConnections()
	c.resolver.wellKnown.http.CloseIdleConnections()
}

// ServerName is the name that requests are sent in.
func (c *Client) ServerName() string { return c.options.Signer.ServerName }

// call is one request and the bounds of its answer.
type call struct {
	method    string
	target    string // the path with the query, escaped
	body      []byte // JSON, nil for none
	unsigned  bool   // without Authorization
	own       bool   // the server may have this one's name
	events    bool   // the answer has events: what they contain is judged one by one
	explained bool   // a refusal with status 400 is to be passed through to clients
	limit     int64  // of the answer, in bytes
	timeout   time.Duration
	// read, if not nil, reads the answer, of status 200, in place of [decode].
	read func(ctx context.Context, resp *http.Response) error
}

// target joins a path and its last segments, which are escaped here.
func target(path string, segments ...string) string {
	for _, segment := range segments {
		path += "/" + url.PathEscape(segment)
	}
	return path
}

// do sends the request and decodes the answer, of status 200, into answer (a pointer).
func (c *Client) do(ctx context.Context, server string, r call, answer any) error {
	if err := c.permit(ctx, server, r.own); err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	err := c.exchange(inner, server, &r, answer)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("a request to %s: %w", server, context.Cause(ctx))
	}
	if c.options.Done != nil {
		c.options.Done(server, err)
	}
	return err
}

func (c *Client) permit(ctx context.Context, server string, own bool) error {
	if _, _, _, err := splitServerName(server); err != nil {
		return matrix.InvalidParam.With("This is not the name of a server that can be reached").Because(err)
	}
	if server == c.ServerName() && !own {
		return errors.New("a request of this server to itself")
	}
	if c.options.Gate != nil {
		return c.options.Gate(ctx, server)
	}
	return nil
}

// exchange gives one of the package's errors.
func (c *Client) exchange(ctx context.Context, server string, r *call, answer any) error {
	to, err := c.resolver.resolve(ctx, server)
	if err != nil {
		return &UnreachableError{server, err}
	}
	req, err := c.request(ctx, server, to, r)
	if err != nil {
		return err
	}
	transport := c.transport
	if r.read != nil {
		transport = c.files
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return &UnreachableError{server, err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		// Without a readable body the status says enough.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		return peerError(server, resp, body, r)
	}
	if r.read != nil {
		return r.read(ctx, resp)
	}
	if r.limit <= largeAnswer {
		return decode(server, resp.Body, r, answer)
	}
	large := &spending{budget: &c.large, from: resp.Body}
	defer large.end()
	return decode(server, large, r, answer)
}

// request makes the signed request. The URL's host is the name of the pool of
// connections: [Client.dial] knows where that leads.
func (c *Client) request(ctx context.Context, server string, to *destination, r *call) (*http.Request, error) {
	var content []byte
	var body io.Reader
	if r.body != nil {
		var err error
		if content, err = matrix.CanonicalJSON(r.body, false); err != nil {
			return nil, fmt.Errorf("a request to %s: %w", server, err)
		}
		body = bytes.NewReader(content)
	}
	ctx = context.WithValue(ctx, destinationKey{}, to)
	req, err := http.NewRequestWithContext(ctx, r.method, "https://"+to.key()+r.target, body)
	if err != nil {
		return nil, err
	}
	req.Host = to.host
	req.Header["User-Agent"] = []string{c.options.UserAgent}
	// Not sent: it tells the transport that the request may be repeated on another
	// connection, as requests between servers may.
	req.Header["Idempotency-Key"] = nil
	if body != nil {
		req.Header["Content-Type"] = []string{"application/json"}
	}
	if !r.unsigned {
		req.Header["Authorization"] = []string{xmatrix.Sign(c.options.Signer, server, r.method, req.URL.RequestURI(), content)}
	}
	return req, nil
}

type destinationKey struct{}

// dial connects to the first address of the destination that can prove to be it.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	to, ok := ctx.Value(destinationKey{}).(*destination)
	if !ok {
		return nil, errors.New("a connection without a destination")
	}
	var failures []error
	for _, address := range to.addresses {
		var conn *tls.Conn
		conn, err := c.options.Dialer.DialTLS(ctx, address, to.certificate)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", address, err))
	}
	c.resolver.forget(to)
	return nil, errors.Join(failures...)
}

// decode reads the answer. What cannot be used is an [*AnswerError]; a connection that
// breaks, or takes too long, an [*UnreachableError].
func decode(server string, body io.Reader, r *call, answer any) error {
	from := &watched{from: outbound.Limit(body, r.limit)}
	// Events are handed on as they are; who reads them refuses what has two readings.
	err := json.UnmarshalRead(from, answer, jsontext.AllowDuplicateNames(r.events), jsontext.AllowInvalidUTF8(r.events))
	switch {
	case errors.Is(from.err, outbound.ErrTooLarge):
		return &AnswerError{server, from.err}
	case from.err != nil:
		return &UnreachableError{server, from.err}
	case err != nil:
		return &AnswerError{server, err}
	}
	return nil
}

// watched remembers the error that ended the reading, so that faults of the network are
// told from faults of the text.
type watched struct {
	from io.Reader
	err  error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// query is the part of a target that begins with the question mark; without values there
// is none.
func query(values url.Values) string {
	if len(values) == 0 {
		return ""
	}
	return "?" + strings.ReplaceAll(values.Encode(), "+", "%20")
}
