package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
	"beep/outbound"
)

// call is one request below /_matrix/identity/v2.
type call struct {
	server, method, path string
	token                string // "" for none
	body                 any    // becomes JSON; nil for none
}

// do sends a request to a server that is trusted and decodes its answer.
func (c *Client) do(ctx context.Context, r call, answer any) error {
	if err := c.Trusted(r.server); err != nil {
		return err
	}
	return c.fetch(ctx, r.method, &url.URL{Scheme: "https", Host: r.server, Path: "/_matrix/identity/v2" + r.path}, r, answer)
}

func (c *Client) fetch(ctx context.Context, method string, u *url.URL, r call, answer any) error {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return badAnswer(r.server, "the address is none").Because(err)
	}
	req.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return badGateway("The identity server %s cannot be reached", r.server).Because(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(outbound.Limit(resp.Body, maxAnswer))
	switch {
	case err != nil && !errors.Is(err, outbound.ErrTooLarge):
		return badGateway("The identity server %s cannot be reached", r.server).Because(err)
	case resp.StatusCode != http.StatusOK:
		return newRefusal(r.server, resp.StatusCode, text)
	case err == nil:
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		return badAnswer(r.server, "it is not what the specification says").Because(err)
	}
	return nil
}

func badGateway(format string, args ...any) *matrix.Error {
	return (&matrix.Error{Status: http.StatusBadGateway, Code: matrix.Unknown.Code}).Withf(format, args...)
}

func badAnswer(server, why string) *matrix.Error {
	return badGateway("The identity server %s answered wrongly", server).Because(errors.New(why))
}

// refusal is an answer of an identity server with another status than 200.
type refusal struct {
	Server string
	Status int
	Code   string
	UserID string // mxid of M_THREEPID_IN_USE
}

func newRefusal(server string, status int, body []byte) *refusal {
	r := &refusal{Server: server, Status: status}
	var members map[string]jsontext.Value
	if json.Unmarshal(body, &members) == nil {
		r.Code, r.UserID = text(members["errcode"]), text(members["mxid"])
	}
	return r
}

// text is a JSON value if that is a string, "" for others.
func text(value jsontext.Value) (s string) {
	if value.Kind() != '"' || json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

func refusalOf(err error) *refusal {
	r, _ := errors.AsType[*refusal](err)
	return r
}

// Error is the text for logs.
func (r *refusal) Error() string {
	return fmt.Sprintf("the identity server %s answered with status %d: %q", r.Server, r.Status, r.Code)
}

// Unwrap gives the [matrix.Error] for a client. What the identity server says of its own
// access token must not look like a word about the client's session here.
func (r *refusal) Unwrap() error {
	switch {
	case r.Code == "M_TERMS_NOT_SIGNED":
		return &matrix.Error{Status: http.StatusForbidden, Code: r.Code, Message: "The identity server wants its terms to be accepted first"}
	case r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
		return matrix.Forbidden.With("The identity server does not accept id_access_token")
	case r.Code == "M_UNRECOGNIZED" && r.Status == http.StatusBadRequest:
		return matrix.ThreepidMediumDenied.With("The identity server cannot invite by an address of this kind")
	}
	return badGateway("The identity server %s did not do this", r.Server)
}
