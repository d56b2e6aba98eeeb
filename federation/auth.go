package federation

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"beep/federation/allow"
	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/web"
)

const (
	// maxTransaction bounds the body of a transaction, in bytes: as many events and EDUs
	// as there may be, of the size that they may have, with some space.
	maxTransaction = 16 << 20
	// maxBodies bounds the bodies that are in memory at the same time, in bytes. Whoever
	// comes beyond waits. Nobody knows who sends them before they have been read.
	maxBodies = 16 * maxTransaction
)

// errUnauthorized answers a request whose origin is not proven (server-server API,
// "Request Authentication").
var errUnauthorized = &matrix.Error{Status: http.StatusUnauthorized, Code: "M_UNAUTHORIZED", Message: "The request is not signed as it has to be"}

// Origin is the server that sends a request.
type Origin struct {
	Server string
	// Content is the request's body as canonical JSON; nil without one.
	Content []byte
}

// LogUser is the server's name, for logs and rate limits.
func (o *Origin) LogUser() string { return o.Server }

// origin authenticates a request of another server.
func (a *API) origin(r *http.Request) (*Origin, error) {
	given, err := xmatrix.Parse(r.Header["Authorization"])
	if errors.Is(err, xmatrix.ErrServerName) {
		return nil, matrix.InvalidParam.With("The Authorization header names a server as no server is named").Because(err)
	} else if err != nil {
		return nil, errUnauthorized.With("The Authorization header is missing or malformed").Because(err)
	}
	switch {
	case given.Destination != "" && given.Destination != a.Signer.ServerName:
		return nil, errUnauthorized.With("The request is for another server")
	case given.Origin == a.Signer.ServerName:
		return nil, errUnauthorized.With("The request is in this server's own name")
	}
	if err := a.Allow.Admit(r.Context(), allow.Origin, given.Origin, allow.About{}); err != nil {
		return nil, err
	}
	content, err := a.content(r)
	if err != nil {
		return nil, err
	}
	if err := a.verify(r, given, content); err != nil {
		return nil, err
	}
	if a.Heard != nil {
		a.Heard(given.Origin)
	}
	return &Origin{given.Origin, content}, nil
}

// Authenticate is the authentication of requests of other servers, for routes that are not
// of this package. Without keys of others it admits nobody.
func (a *API) Authenticate(r *http.Request) (*Origin, error) {
	if a.Keys == nil {
		return nil, matrix.Unrecognized
	}
	return a.origin(r)
}

// content is the body of a request as canonical JSON, which is what signatures cover.
func (a *API) content(r *http.Request) ([]byte, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil, nil
	}
	size := r.ContentLength
	if size < 0 {
		size = maxTransaction
	}
	if err := a.bodies.Acquire(r.Context(), size); err != nil {
		return nil, err
	}
	context.AfterFunc(r.Context(), func() { a.bodies.Release(size) }) // when the request ends
	body, err := web.ReadBody(r)
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return nil, err
	}
	content, err := matrix.CanonicalJSON(body, false)
	if err != nil {
		return nil, matrix.NotJSON.With("The request's body has no canonical form: " + err.Error())
	}
	return content, nil
}

func (a *API) verify(r *http.Request, given *xmatrix.Authorization, content []byte) error {
	err := a.Keys.Verify(r.Context(), []matrix.Claim{{
		Server: given.Origin, Message: given.Message(r.Method, r.RequestURI, content), Signatures: map[string]string{given.Key: given.Signature},
		At: time.Now().UnixMilli(), Strict: true,
	}})[0]
	for _, unproven := range []error{matrix.ErrUnsigned, matrix.ErrNoKey, matrix.ErrBadSignature} {
		if errors.Is(err, unproven) {
			return errUnauthorized.Because(err)
		}
	}
	return err
}
