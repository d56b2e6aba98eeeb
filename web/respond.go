package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

const (
	// buffered is how much of an answer net/http keeps back: a larger one waits for the
	// client to take it.
	buffered = 4 << 10
	// slowestClient is the rate in bytes per second that a client must at least take.
	slowestClient = 16 << 10
)

// Raw is an answer that is not JSON.
type Raw struct {
	Status      int // 0 means 200
	ContentType string
	// Body is sent if Content is nil.
	Body []byte
	// Content is copied to the client and closed if it is an [io.Closer]. Size is its
	// length in bytes, -1 if that is not known.
	Content io.Reader
	Size    int64
	// Header are further headers, by their canonical names; they take the place of the
	// usual ones.
	Header http.Header
}

// HTML is a page that may not be framed and loads nothing but what allow adds to its
// Content-Security-Policy, as "style-src " + [HashSource] of the style element's text.
// Make the page with html/template.
func HTML(status int, page []byte, allow ...string) *Raw {
	policy := append([]string{"default-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"}, allow...)
	return &Raw{
		Status:      status,
		ContentType: "text/html; charset=utf-8",
		Body:        page,
		Header: http.Header{
			"Content-Security-Policy": {strings.Join(policy, "; ")},
			"X-Frame-Options":         {"DENY"},
			"Referrer-Policy":         {"no-referrer"},
			"Cache-Control":           {"no-store"},
		},
	}
}

// HashSource is the Content-Security-Policy source that allows one inline script or
// style with exactly this text.
func HashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (x *exchange) successStatus() int {
	if s := x.leaf.route.options.status; s != 0 {
		return s
	}
	return http.StatusOK
}

// writeAnswer writes what a handler returned.
func (x *exchange) writeAnswer(resp any) error {
	switch resp := resp.(type) {
	case *Raw:
		return x.writeRaw(resp)
	case interface{ AppendJSON([]byte) []byte }:
		buffer := buffers.Get().(*bytes.Buffer)
		text := resp.AppendJSON(buffer.AvailableBuffer())
		x.writeText(x.successStatus(), text)
		*buffer = *bytes.NewBuffer(text)
		putBuffer(buffer)
		return nil
	default:
		return x.writeJSON(x.successStatus(), resp)
	}
}

// outgoing lets pass what was accepted under the rules of its day: an old event that
// has a name twice must not make an answer impossible.
var outgoing = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

func (x *exchange) writeJSON(status int, v any) error {
	buffer := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buffer)
	if err := json.MarshalWrite(buffer, v, outgoing); err != nil {
		return err
	}
	x.writeText(status, buffer.Bytes())
	return nil
}

var jsonType = []string{"application/json"}

func (x *exchange) writeText(status int, text []byte) {
	h := x.w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	x.writeBytes(status, text)
}

// writeBytes begins and ends the answer. That the client is gone by now is no failure
// of the server, so errors of the connection end here.
func (x *exchange) writeBytes(status int, body []byte) {
	if status != http.StatusNoContent && status != http.StatusNotModified {
		x.length[0] = strconv.Itoa(len(body))
		x.w.Header()["Content-Length"] = x.length[:]
	}
	x.status = status
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return
	}
	if len(body) < buffered {
		_, _ = x.w.Write(body)
		return
	}
	control := http.NewResponseController(x.w)
	_ = control.SetWriteDeadline(time.Now().Add(bodyTime + time.Duration(len(body)/slowestClient)*time.Second))
	_, _ = x.w.Write(body)
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
}

func (x *exchange) writeRaw(raw *Raw) error {
	if closer, ok := raw.Content.(io.Closer); ok {
		defer closer.Close()
	}
	h := x.w.Header()
	if raw.ContentType != "" {
		h.Set("Content-Type", raw.ContentType)
	}
	maps.Copy(h, raw.Header)
	status := raw.Status
	if status == 0 {
		status = http.StatusOK
	}
	if raw.Content == nil {
		x.writeBytes(status, raw.Body)
		return nil
	}
	if raw.Size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(raw.Size, 10))
	}
	x.status = status
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	return x.copyContent(raw.Content)
}

// copyContent sends content piece by piece, each within its time; a file goes from the
// kernel to the kernel. Its error is one of the source, not of a client that left.
func (x *exchange) copyContent(content io.Reader) error {
	const piece = 1 << 20
	control := http.NewResponseController(x.w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	for {
		_ = control.SetWriteDeadline(time.Now().Add(bodyTime + piece/slowestClient*time.Second))
		_, err := io.CopyN(x.w, content, piece)
		var network *net.OpError
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_ = control.Flush()
			return nil
		case x.Context.Err() != nil, errors.As(err, &network), errors.Is(err, os.ErrDeadlineExceeded):
			return context.Canceled
		default:
			return err
		}
	}
}

// writeError writes a standard error response. An error without a code is its fields
// alone, as the 401 of user-interactive authentication is.
func (x *exchange) writeError(e *matrix.Error) {
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		x.w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	text, err := errorBody(e)
	if err != nil {
		x.log().Error("error response cannot be encoded", "error", err)
		e = matrix.Unknown
		text = []byte(`{"errcode":"M_UNKNOWN","error":"The server failed to do this; its log says why"}`)
	}
	x.writeText(e.Status, text)
}

func errorBody(e *matrix.Error) ([]byte, error) {
	members := make(map[string]any, len(e.Fields)+3)
	maps.Copy(members, e.Fields)
	if e.Code != "" {
		members["errcode"] = e.Code
		members["error"] = e.Message
	}
	if e.RetryAfter > 0 {
		members["retry_after_ms"] = int64((e.RetryAfter + time.Millisecond - 1) / time.Millisecond)
	}
	return json.Marshal(members, outgoing, json.Deterministic(true))
}
