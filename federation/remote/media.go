package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"beep/matrix"
	"beep/outbound"
)

const (
	// mediaTimeout bounds the fetching of one file, besides what the other server may wait.
	mediaTimeout = 3 * time.Minute
	// maxMediaHead bounds what comes before a file in the answer, in bytes: the first part
	// and the headers of the second.
	maxMediaHead = 64 << 10
	// maxMediaRedirects is how often the address of a file may lead to another one.
	maxMediaRedirects = 3
)

// TakeMedia takes a file that another server has: the headers Content-Type and
// Content-Disposition, which may be empty, and the content.
type TakeMedia = func(contentType, disposition string, content io.Reader) error

// errMediaTooLarge is for clients: what they want is too large to be fetched.
var errMediaTooLarge = &matrix.Error{Status: http.StatusBadGateway, Code: matrix.TooLarge.Code, Message: "The file of the other server is too large"}

// Media is GET /media/download/{mediaId}, or the deprecated endpoint of servers that do not
// know it. The content has at most limit bytes, or ends with an error that tells a client
// so. wait is how long the server may wait for what is not uploaded yet. The error of take
// is given back, unless the content has broken off.
func (c *Client) Media(ctx context.Context, server, mediaID string, limit int64, wait time.Duration, take TakeMedia) error {
	values := url.Values{"timeout_ms": {strconv.FormatInt(wait.Milliseconds(), 10)}}
	m := &mediaAnswer{client: c, server: server, limit: limit, take: take}
	r := call{method: http.MethodGet, target: target("/_matrix/federation/v1/media/download", mediaID) + query(values), timeout: mediaTimeout + wait}
	r.read = m.readParts
	err := c.do(ctx, server, r, nil)
	if peer, ok := errors.AsType[*PeerError](err); ok && peer.Status == http.StatusNotFound && (peer.Code == "M_UNRECOGNIZED" || peer.Code == "") {
		values.Set("allow_remote", "false")
		r.target = target("/_matrix/media/v3/download", server, mediaID) + query(values)
		r.unsigned, r.read = true, m.readBody
		err = c.do(ctx, server, r, nil)
	}
	return mediaError(err)
}

// mediaError is what a client is told of another server's refusal.
func mediaError(err error) error {
	peer, ok := errors.AsType[*PeerError](err)
	switch {
	case ok && peer.Code == matrix.NotYetUploaded.Code:
		return matrix.NotYetUploaded.Because(err)
	case ok && peer.Code == matrix.TooLarge.Code:
		return errMediaTooLarge.Because(err)
	case ok && peer.Status == http.StatusNotFound:
		return matrix.NotFound.With("The server " + peer.Server + " has no such file").Because(err)
	}
	return err
}

// mediaAnswer reads the answer of a server that was asked for a file.
type mediaAnswer struct {
	client *Client
	server string
	limit  int64
	take   TakeMedia
}

// readBody reads an answer that is the file.
func (m *mediaAnswer) readBody(_ context.Context, resp *http.Response) error {
	return m.content(resp.ContentLength, resp.Header.Get("Content-Type"), resp.Header.Get("Content-Disposition"), resp.Body)
}

// readParts reads an answer of two parts: what is known of the file, which is nothing so far,
// and the file, or where it lies.
func (m *mediaAnswer) readParts(ctx context.Context, resp *http.Response) error {
	kind, parameters, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" || parameters["boundary"] == "" {
		return &AnswerError{m.server, fmt.Errorf("media of the type %.100q", resp.Header.Get("Content-Type"))}
	}
	from := &rationed{from: resp.Body, left: maxMediaHead}
	parts := multipart.NewReader(from, parameters["boundary"])
	first, err := parts.NextRawPart()
	if err != nil {
		return m.broken(from.err, err)
	}
	if kind, _, _ := mime.ParseMediaType(first.Header.Get("Content-Type")); kind != "application/json" {
		return &AnswerError{m.server, errors.New("the first part of media is not JSON")}
	}
	second, err := parts.NextRawPart()
	if err != nil {
		return m.broken(from.err, err)
	}
	if location := second.Header.Get("Location"); location != "" {
		return m.redirect(ctx, location)
	}
	from.left = m.limit + maxMediaHead
	return m.content(-1, second.Header.Get("Content-Type"), second.Header.Get("Content-Disposition"), second)
}

// redirect fetches the file from where the server says that it lies. In a closed federation
// that place has to belong to it too.
func (m *mediaAnswer) redirect(ctx context.Context, location string) error {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return &AnswerError{m.server, errors.New("media at an address that is none")}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return &AnswerError{m.server, err}
	}
	req.Header["User-Agent"] = []string{m.client.options.UserAgent}
	if err := m.client.gateHost(req); err != nil {
		return err
	}
	resp, err := m.client.places.Do(req)
	if err != nil {
		return &UnreachableError{m.server, err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &AnswerError{m.server, fmt.Errorf("media at an address that answers with status %d", resp.StatusCode)}
	}
	return m.readBody(ctx, resp)
}

// gateHost asks the gate for the host of an address.
func (c *Client) gateHost(req *http.Request) error {
	if c.options.Gate == nil {
		return nil
	}
	return c.options.Gate(req.Context(), strings.ToLower(req.URL.Host))
}

// newPlaces fetches files from where servers say that they lie.
func (c *Client) newPlaces() *http.Client {
	places := c.options.Dialer.Client(mediaTimeout, maxMediaRedirects)
	follow := places.CheckRedirect
	places.CheckRedirect = func(next *http.Request, before []*http.Request) error {
		if err := follow(next, before); err != nil {
			return err
		}
		return c.gateHost(next)
	}
	return places
}

// content hands on the file. length is what the headers say, -1 if they do not.
func (m *mediaAnswer) content(length int64, contentType, disposition string, body io.Reader) error {
	if length > m.limit {
		return errMediaTooLarge
	}
	from := &watched{from: outbound.Limit(body, m.limit)}
	err := m.take(contentType, disposition, from)
	if from.err != nil {
		return m.broken(from.err, from.err)
	}
	return err
}

// broken tells an answer that broke off from one that is wrong. network is the error of the
// connection, if it had one.
func (m *mediaAnswer) broken(network, err error) error {
	switch {
	case errors.Is(err, outbound.ErrTooLarge):
		return errMediaTooLarge
	case network == nil || errors.Is(network, errMediaHead):
		return &AnswerError{m.server, err}
	}
	return &UnreachableError{m.server, err}
}

var errMediaHead = errors.New("too much comes before the file")

// rationed is a reader that fails when more than left is read.
type rationed struct {
	from io.Reader
	left int64
	err  error
}

// Read serves [io.Reader].
func (r *rationed) Read(p []byte) (int, error) {
	if r.left <= 0 {
		r.err = errMediaHead
		return 0, r.err
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
