package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/tests/contract"
)

// requestTime bounds a request, so that a server that hangs fails the test.
const requestTime = 90 * time.Second

// Client is a Matrix client. Its methods may be called concurrently, but for those that
// change its fields (logins, [Client.Sync]).
type Client struct {
	Server *Server
	// Who it is logged in as; "" for nobody.
	UserID, DeviceID, AccessToken, RefreshToken string
	// Password is what the user was registered with.
	Password string
	// Since is where the next sync begins.
	Since string

	t    testing.TB
	http *http.Client
}

// connections keep the connections to all servers of the process.
var connections = sync.OnceValue(func() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 100,
		IdleConnTimeout:     time.Minute,
	}
})

// Client is a client that is not logged in. All its exchanges are checked against the
// specification.
func (s *Server) Client(t testing.TB) *Client {
	t.Helper()
	specification, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	return s.clientWith(t, &contract.Transport{Spec: specification, Base: connections(), Report: t.Errorf})
}

func (s *Server) clientWith(t testing.TB, transport http.RoundTripper) *Client {
	return &Client{Server: s, t: t, http: &http.Client{
		Transport: transport,
		Timeout:   requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

// Lax is the same client for tests that send junk on purpose: the contents of events
// are not checked.
func (c *Client) Lax() *Client {
	checked := *c.http.Transport.(*contract.Transport)
	checked.LaxEvents = true
	return c.with(&checked)
}

// Unchecked is the same client without any checks: for load, and for what is no JSON.
func (c *Client) Unchecked() *Client { return c.with(connections()) }

// Over is the same client, unchecked, over another transport.
func (c *Client) Over(transport http.RoundTripper) *Client { return c.with(transport) }

func (c *Client) with(transport http.RoundTripper) *Client {
	other := *c
	other.http = c.Server.clientWith(c.t, transport).http
	return &other
}

// For is the same client for a subtest.
func (c *Client) For(t testing.TB) *Client {
	other := c.Server.Client(t)
	transport := other.http
	*other = *c
	other.t, other.http = t, transport
	return other
}

// Response is an answer.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	JSON
	// Request is what was asked: the method and the path.
	Request string
	t       testing.TB
}

// Path makes a path from a format whose arguments are path segments, which it escapes.
func Path(format string, segments ...string) string {
	args := make([]any, len(segments))
	for i, s := range segments {
		args[i] = url.PathEscape(s)
	}
	return fmt.Sprintf(format, args...)
}

// Query is a query string of pairs of key and value, with the question mark; "" for none.
func Query(pairs ...string) string {
	if len(pairs) == 0 {
		return ""
	}
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return "?" + values.Encode()
}

// Do sends a request and fails the test if there is no answer. Paths that do not begin
// with /_ or /. are below /_matrix/client. Text and bytes are sent as they are, nil is
// no body ({} for POST), and everything else becomes JSON.
func (c *Client) Do(method, path string, body any) *Response {
	c.t.Helper()
	r, err := c.Try(c.t.Context(), method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// Try is [Client.Do] for other goroutines than the test's own.
func (c *Client) Try(ctx context.Context, method, path string, body any) (*Response, error) {
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return c.Send(req)
}

// Send sends a request that the test made itself.
func (c *Client) Send(req *http.Request) (*Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &Response{Status: resp.StatusCode, Header: resp.Header, Request: req.Method + " " + req.URL.RequestURI(), t: c.t}
	if r.Body, err = io.ReadAll(resp.Body); err != nil {
		return nil, fmt.Errorf("%s: %w", r.Request, err)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && req.Method != http.MethodHead {
		if r.JSON, err = ParseJSON(r.Body); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Request, err)
		}
	}
	return r, nil
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	if !strings.HasPrefix(path, "/_") && !strings.HasPrefix(path, "/.") {
		path = "/_matrix/client" + path
	}
	content, err := encode(method, body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Server.URL()+path, content)
	if err != nil {
		return nil, err
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.AccessToken != "" {
		req.Header.Set("Authorization", "Bearer "+c.AccessToken)
	}
	return req, nil
}

func encode(method string, body any) (io.Reader, error) {
	switch body := body.(type) {
	case nil:
		if method == http.MethodPost {
			return strings.NewReader("{}"), nil
		}
		return nil, nil
	case string:
		return strings.NewReader(body), nil
	case []byte:
		return bytes.NewReader(body), nil
	}
	text, err := json.Marshal(body)
	return bytes.NewReader(text), err
}

// Get asks for a path, with a query of pairs of key and value.
func (c *Client) Get(path string, query ...string) *Response {
	c.t.Helper()
	return c.Do(http.MethodGet, path+Query(query...), nil)
}

// Put sends a body to a path.
func (c *Client) Put(path string, body any) *Response {
	c.t.Helper()
	return c.Do(http.MethodPut, path, body)
}

// Post sends a body to a path.
func (c *Client) Post(path string, body any) *Response {
	c.t.Helper()
	return c.Do(http.MethodPost, path, body)
}

// Delete deletes what is at a path.
func (c *Client) Delete(path string, body any) *Response {
	c.t.Helper()
	return c.Do(http.MethodDelete, path, body)
}

// OK ends the test unless the answer is 200.
func (r *Response) OK() *Response {
	r.t.Helper()
	if r.Status != http.StatusOK {
		r.t.Fatalf("%s: status %d, not 200\n%.500s", r.Request, r.Status, r.Body)
	}
	return r
}

// Fails ends the test unless the answer is this error.
func (r *Response) Fails(status int, code string) *Response {
	r.t.Helper()
	if r.Status != status || r.At("errcode").Str() != code {
		r.t.Fatalf("%s: status %d, not %d %s\n%.500s", r.Request, r.Status, status, code, r.Body)
	}
	return r
}
