package harness

import (
	"net/http"
	"testing"
)

// DefaultPassword is the password of users that tests register.
const DefaultPassword = "correct horse battery staple"

// Register makes a user whose name begins with prefix, and a client logged in as them.
func (s *Server) Register(t testing.TB, prefix string) *Client {
	t.Helper()
	c := s.Client(t)
	c.Password = DefaultPassword
	c.session(c.Post("/v3/register", Object{"username": s.UniqueName(prefix), "password": c.Password, "auth": Object{"type": "m.login.dummy"}}))
	return c
}

// session takes over what an answer says about a new session.
func (c *Client) session(r *Response) {
	c.t.Helper()
	r.OK()
	c.UserID, c.DeviceID = r.At("user_id").Str(), r.At("device_id").Str()
	c.AccessToken, c.RefreshToken = r.At("access_token").Str(), r.At("refresh_token").Str()
	if c.UserID == "" || c.DeviceID == "" || c.AccessToken == "" {
		c.t.Fatalf("no session: %s", r.Body)
	}
}

// RegisterGuest is a client of a new guest.
func (s *Server) RegisterGuest(t testing.TB) *Client {
	t.Helper()
	c := s.Client(t)
	c.session(c.Post("/v3/register?kind=guest", nil))
	return c
}

// Login is a client of the same user with a new session; fields are added to the request.
func (c *Client) Login(fields Object) *Client {
	c.t.Helper()
	other := c.Server.Client(c.t)
	other.Password = c.Password
	other.session(other.Post("/v3/login", PasswordLogin(c.UserID, c.Password, fields)))
	return other
}

// PasswordLogin is the body of a login.
func PasswordLogin(user, password string, fields Object) Object {
	body := Object{"type": "m.login.password", "identifier": Object{"type": "m.id.user", "user": user}, "password": password}
	for key, value := range fields {
		body[key] = value
	}
	return body
}

// Prove sends a request that takes user-interactive authentication twice: to be told the
// session, and with the user's password.
func (c *Client) Prove(method, path string, body Object) *Response {
	c.t.Helper()
	challenge := c.Do(method, path, body)
	if challenge.Status != http.StatusUnauthorized || challenge.At("session").Str() == "" {
		c.t.Fatalf("%s: no challenge: status %d %s", path, challenge.Status, challenge.Body)
	}
	proven := Object{"auth": c.PasswordAuth(challenge.At("session").Str())}
	for key, value := range body {
		proven[key] = value
	}
	return c.Do(method, path, proven)
}

// PasswordAuth is the auth member that proves the user's password.
func (c *Client) PasswordAuth(session string) Object {
	auth := Object{"type": "m.login.password", "identifier": Object{"type": "m.id.user", "user": c.UserID}, "password": c.Password}
	if session != "" {
		auth["session"] = session
	}
	return auth
}
