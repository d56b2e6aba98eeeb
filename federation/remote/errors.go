package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

// maxMessage bounds what another server's error says, in bytes.
const maxMessage = 500

// PeerError is another server's refusal: it answered, with another status than 200.
// It wraps the [matrix.Error] that a client may be told.
type PeerError struct {
	Server  string
	Status  int
	Code    string // errcode; "" when the answer has none
	Message string // error, of another server's making
	// RoomVersion is room_version of M_INCOMPATIBLE_ROOM_VERSION.
	RoomVersion string
	// RetryAfter is how long the server asks us to wait; 0 when it does not say.
	RetryAfter time.Duration
	// Explains says that this is status 400 to a request, as for a join, of which the
	// specification has such errors passed through to clients.
	Explains bool
}

// Error is the text for logs.
func (e *PeerError) Error() string {
	return fmt.Sprintf("%s answered with status %d: %s: %q", e.Server, e.Status, e.Code, e.Message)
}

// relayed are the codes that a client may learn from another server, with the status that
// belongs to each. Not among them is what a client takes for a word about its own
// session, as M_UNKNOWN_TOKEN, and what tells of a fault in our request.
var relayed = map[string]int{
	"M_FORBIDDEN":                 http.StatusForbidden,
	"M_NOT_FOUND":                 http.StatusNotFound,
	"M_INVITE_BLOCKED":            http.StatusForbidden,
	"M_INCOMPATIBLE_ROOM_VERSION": http.StatusBadRequest,
	"M_UNABLE_TO_AUTHORISE_JOIN":  http.StatusBadRequest,
	"M_UNABLE_TO_GRANT_JOIN":      http.StatusBadRequest,
	"M_RESOURCE_LIMIT_EXCEEDED":   http.StatusForbidden,
}

// kept are the codes that a client does not even learn where errors are passed through.
var kept = map[string]bool{
	// What a client takes for a word about its own session or account.
	"M_UNKNOWN_TOKEN": true, "M_MISSING_TOKEN": true, "M_UNAUTHORIZED": true, "M_UNKNOWN_DEVICE": true, "M_USER_DEACTIVATED": true,
	"M_USER_LOCKED": true, "M_USER_SUSPENDED": true, "M_CONSENT_NOT_GIVEN": true, "M_TERMS_NOT_SIGNED": true,
	"M_LIMIT_EXCEEDED": true, "M_USER_LIMIT_EXCEEDED": true,
	// What tells of a fault in our request.
	"M_MISSING_PARAM": true, "M_INVALID_PARAM": true, "M_BAD_JSON": true, "M_NOT_JSON": true, "M_TOO_LARGE": true,
	"M_UNRECOGNIZED": true, "M_UNKNOWN": true,
}

// status is that of the answer to a client that may learn the code. Codes without M_ are
// for the clients of the server that made them up.
func (e *PeerError) status() (status int, relay bool) {
	if status, relay = relayed[e.Code]; relay {
		return status, true
	}
	return http.StatusBadRequest, e.Explains && strings.HasPrefix(e.Code, "M_") && !kept[e.Code]
}

// Unwrap gives the [matrix.Error] for a client: the peer's code if it is one of those
// that may be relayed, otherwise M_UNKNOWN with status 502. None of the answer's other
// members come along but room_version.
func (e *PeerError) Unwrap() error {
	status, ok := e.status()
	if !ok {
		return badGateway("The server " + e.Server + " did not do this")
	}
	told := &matrix.Error{Status: status, Code: e.Code, Message: e.Message}
	if e.Code == "M_INCOMPATIBLE_ROOM_VERSION" && e.RoomVersion != "" {
		return told.Field("room_version", e.RoomVersion)
	}
	return told
}

func badGateway(message string) *matrix.Error {
	return &matrix.Error{Status: http.StatusBadGateway, Code: matrix.Unknown.Code, Message: message}
}

// UnreachableError says that a server did not answer: its name could not be resolved, no
// connection was made, or it broke, or took too long.
type UnreachableError struct {
	Server string
	Cause  error
}

// Error is the text for logs.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s is unreachable: %v", e.Server, e.Cause)
}

// Unwrap gives the [matrix.Error] for a client, and the cause.
func (e *UnreachableError) Unwrap() []error {
	return []error{badGateway("The server " + e.Server + " cannot be reached"), e.Cause}
}

// AnswerError says that a server accepted a request and answered what cannot be used: too
// much, no JSON, or not what the specification says.
type AnswerError struct {
	Server string
	Cause  error
}

// Error is the text for logs.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("%s answered wrongly: %v", e.Server, e.Cause)
}

// Unwrap gives the [matrix.Error] for a client, and the cause.
func (e *AnswerError) Unwrap() []error {
	return []error{badGateway("The server " + e.Server + " answered wrongly"), e.Cause}
}

// Unavailable tells whether err says that the server cannot serve anybody now, so that
// asking it again makes sense later and not at once: it is unreachable, has an inner
// fault, or is overloaded. A refusal is none of these, nor is the end of the caller's own
// context.
func Unavailable(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	if peer, ok := errors.AsType[*PeerError](err); ok {
		return peer.Status >= 500 || peer.Status == http.StatusTooManyRequests
	}
	_, ok := errors.AsType[*UnreachableError](err)
	return ok
}

// peerError reads the body of a refusal, as far as it makes sense.
func peerError(server string, resp *http.Response, body []byte, r *call) *PeerError {
	e := &PeerError{Server: server, Status: resp.StatusCode, Explains: r.explained && resp.StatusCode == http.StatusBadRequest}
	var members map[string]jsontext.Value
	if json.Unmarshal(body, &members, jsontext.AllowDuplicateNames(true)) == nil {
		e.Code = errorCode(text(members["errcode"]))
		e.Message = cut(text(members["error"]), maxMessage)
		e.RoomVersion = cut(text(members["room_version"]), 32)
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), string(members["retry_after_ms"]))
	return e
}

// retryAfter reads the header (seconds) and the older member of the body (milliseconds).
func retryAfter(seconds, milliseconds string) time.Duration {
	const longest = 24 * time.Hour
	d := time.Duration(0)
	if n, err := strconv.ParseUint(seconds, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if n, err := strconv.ParseUint(milliseconds, 10, 41); err == nil {
		d = time.Duration(n) * time.Millisecond
	}
	return min(d, longest)
}

// errorCode is code if it has the form of one.
func errorCode(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool {
		return r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return ""
	}
	return code
}

// text is a JSON value if that is a string, "" for others.
func text(value jsontext.Value) (s string) {
	if value.Kind() != '"' || json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// cut shortens text to n bytes at most, between two characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
