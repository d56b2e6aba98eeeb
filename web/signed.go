package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// ReadBody reads the whole body of a request, no more than its route allows. It is for
// the authentication of requests whose signature covers the body: the handler finds the
// body unread. The request has to be one that a [Router] is serving.
func ReadBody(r *http.Request) ([]byte, error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("web: the body of a request that no router serves")
	}
	var buffer bytes.Buffer
	if err := x.readBody(&buffer); err != nil {
		return nil, err
	}
	x.r.Body = io.NopCloser(bytes.NewReader(buffer.Bytes()))
	x.r.ContentLength = int64(buffer.Len())
	return buffer.Bytes(), nil
}
