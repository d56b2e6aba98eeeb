package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// observer is a user who knows how far a server's stream has come.
type observer struct {
	mu     sync.Mutex
	client *Client
	n      int
}

// settle waits until everybody can hear of all that the server has answered so far. A
// write is answered when it is stored; it comes into streams when those that began
// before it have ended as well, and other tests write at the same time. So the observer
// writes something and waits until it hears of it.
func (s *Server) settle(ctx context.Context) error {
	s.observer.mu.Lock()
	defer s.observer.mu.Unlock()
	if err := s.observer.login(ctx, s); err != nil {
		return err
	}
	s.observer.n++
	return s.observer.observe(ctx)
}

func (o *observer) login(ctx context.Context, s *Server) error {
	if o.client != nil {
		return nil
	}
	c := s.clientWith(nil, connections())
	body := Object{"username": s.UniqueName("observer"), "password": DefaultPassword, "auth": Object{"type": "m.login.dummy"}}
	r, err := c.Try(ctx, http.MethodPost, "/v3/register", body)
	if err != nil {
		return err
	}
	c.UserID, c.AccessToken = r.At("user_id").Str(), r.At("access_token").Str()
	o.client = c
	return nil
}

// observe writes the number and waits for it in sync.
func (o *observer) observe(ctx context.Context) error {
	const dataType = "org.example.observed"
	written, err := o.client.Try(ctx, http.MethodPut, Path("/v3/user/%s/account_data/"+dataType, o.client.UserID), Object{"n": o.n})
	if err != nil || written.Status != http.StatusOK {
		return errors.Join(err, fmt.Errorf("the observer cannot write: %+v", written))
	}
	for {
		query := o.client.sinceQuery([]string{"timeout", pollTime, "set_presence", "offline"})
		r, err := o.client.Try(ctx, http.MethodGet, "/v3/sync"+Query(query...), nil)
		if err != nil || r.Status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("the observer cannot sync: %+v", r))
		}
		o.client.Since = r.At("next_batch").Str()
		if r.At("account_data", "events").Find("type", dataType).At("content", "n").Int() == int64(o.n) {
			return nil
		}
	}
}
