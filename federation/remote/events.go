package remote

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

const (
	// MaxPDUs and MaxEDUs bound a transaction (server-server API, "Transactions").
	MaxPDUs = 50
	MaxEDUs = 100

	// maxSmall bounds answers of a few lines, in bytes.
	maxSmall = 64 << 10
	// maxResults bounds the answer to a transaction, in bytes.
	maxResults = 1 << 20
	// maxIDs bounds an answer of event ids, in bytes.
	maxIDs = 32 << 20
	// eventSpace is what one event of a list may take with its unsigned, in bytes.
	eventSpace = 2 * matrix.MaxEventSize

	// sendTimeout is for transactions, which the other server works on for long.
	sendTimeout = 2 * time.Minute
)

// Transaction is what PUT /send carries.
type Transaction struct {
	ID             string
	OriginServerTS int64                // ms
	PDUs           []stdjson.RawMessage // at most MaxPDUs
	EDUs           []stdjson.RawMessage // at most MaxEDUs
}

// Results is what another server made of a transaction's PDUs.
type Results struct {
	// Errors are the errors of the PDUs that it did not take, by event id.
	Errors map[string]string
	// Malformed is what is wrong with the answer. The transaction counts as sent even so.
	Malformed error
}

// SendTransaction is PUT /send.
func (c *Client) SendTransaction(ctx context.Context, server string, t *Transaction) (*Results, error) {
	if len(t.PDUs) > MaxPDUs || len(t.EDUs) > MaxEDUs {
		return nil, errors.New("a transaction beyond the limits of the specification")
	}
	body, err := json.Marshal(struct {
		Origin         string               `json:"origin"`
		OriginServerTS int64                `json:"origin_server_ts"`
		PDUs           []stdjson.RawMessage `json:"pdus"`
		EDUs           []stdjson.RawMessage `json:"edus"`
	}{c.ServerName(), t.OriginServerTS, t.PDUs, t.EDUs})
	if err != nil {
		return nil, err
	}
	var answer struct {
		PDUs map[string]jsontext.Value `json:"pdus"`
	}
	err = c.do(ctx, server, call{
		method: http.MethodPut, target: target("/_matrix/federation/v1/send", t.ID),
		body: body, limit: maxResults, timeout: sendTimeout,
	}, &answer)
	results := &Results{Errors: map[string]string{}}
	if malformed, ok := errors.AsType[*AnswerError](err); ok {
		results.Malformed = malformed
		return results, nil
	}
	for eventID, value := range answer.PDUs {
		var result struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(value, &result) == nil && result.Error != "" {
			results.Errors[eventID] = cut(result.Error, maxMessage)
		}
	}
	return results, err
}

// fetchEvents is for answers with a list of at most n events.
func (c *Client) fetchEvents(ctx context.Context, server string, r call, n int, answer any) error {
	r.events = true
	r.limit = maxSmall + int64(n)*eventSpace
	r.timeout = usualTimeout
	return c.do(ctx, server, r, answer)
}

// maxEvents bounds the events that are asked for at once.
const maxEvents = 500

// Backfill is GET /backfill: at most limit events that precede the given ones, and
// these.
func (c *Client) Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]stdjson.RawMessage, error) {
	limit = max(1, min(limit, maxEvents))
	var answer transaction
	err := c.fetchEvents(ctx, server, call{
		method: http.MethodGet,
		target: target("/_matrix/federation/v1/backfill", roomID) +
			query(url.Values{"v": from, "limit": {strconv.Itoa(limit)}}),
	}, limit, &answer)
	return answer.atMost(server, limit, err)
}

// transaction is an answer in the form of one; only the events matter.
type transaction struct {
	PDUs []stdjson.RawMessage `json:"pdus"`
}

func (t *transaction) atMost(server string, n int, err error) ([]stdjson.RawMessage, error) {
	if err == nil && t.PDUs == nil {
		err = &AnswerError{server, errors.New("an answer without pdus")}
	}
	return t.PDUs[:min(n, len(t.PDUs))], err
}

// MissingEvents is POST /get_missing_events: at most limit events before the latest, as far
// back as the earliest.
func (c *Client) MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]stdjson.RawMessage, error) {
	limit = max(1, min(limit, maxEvents))
	body, err := json.Marshal(struct {
		Earliest []string `json:"earliest_events"`
		Latest   []string `json:"latest_events"`
		Limit    int      `json:"limit"`
	}{earliest, latest, limit})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Events []stdjson.RawMessage `json:"events"`
	}
	err = c.fetchEvents(ctx, server, call{
		method: http.MethodPost, target: target("/_matrix/federation/v1/get_missing_events", roomID), body: body,
	}, limit, &answer)
	if err == nil && answer.Events == nil {
		err = &AnswerError{server, errors.New("an answer without events")}
	}
	return answer.Events[:min(limit, len(answer.Events))], err
}

// State is GET /state: the state of a room before an event, and the events that authorise it.
func (c *Client) State(ctx context.Context, server, roomID, eventID string) (state, auth []stdjson.RawMessage, err error) {
	var answer struct {
		State     []stdjson.RawMessage `json:"pdus"`
		AuthChain []stdjson.RawMessage `json:"auth_chain"`
	}
	err = c.do(ctx, server, call{
		method: http.MethodGet, target: target("/_matrix/federation/v1/state", roomID) + query(url.Values{"event_id": {eventID}}),
		events: true, limit: maxState, timeout: stateTimeout,
	}, &answer)
	if err == nil && (answer.State == nil || answer.AuthChain == nil) {
		err = &AnswerError{server, errors.New("a state without pdus or auth_chain")}
	}
	return answer.State, answer.AuthChain, err
}

// StateIDs is GET /state_ids: [Client.State] with the events' ids alone.
func (c *Client) StateIDs(ctx context.Context, server, roomID, eventID string) (state, auth []string, err error) {
	var answer struct {
		State     []string `json:"pdu_ids"`
		AuthChain []string `json:"auth_chain_ids"`
	}
	err = c.do(ctx, server, call{
		method: http.MethodGet, target: target("/_matrix/federation/v1/state_ids", roomID) + query(url.Values{"event_id": {eventID}}),
		limit: maxIDs, timeout: stateTimeout,
	}, &answer)
	if err == nil && (answer.State == nil || answer.AuthChain == nil) {
		err = &AnswerError{server, errors.New("a state without pdu_ids or auth_chain_ids")}
	}
	return answer.State, answer.AuthChain, err
}

// Event is GET /event: one event, whatever room it is in.
func (c *Client) Event(ctx context.Context, server, eventID string) (stdjson.RawMessage, error) {
	var answer transaction
	r := call{method: http.MethodGet, target: target("/_matrix/federation/v1/event", eventID)}
	err := c.fetchEvents(ctx, server, r, 1, &answer)
	if err == nil && len(answer.PDUs) != 1 {
		err = &AnswerError{server, errors.New("an answer that is not one event")}
	}
	if err != nil {
		return nil, err
	}
	return answer.PDUs[0], nil
}

// EventAuth is GET /event_auth: all events that authorise an event, and those that
// authorise these.
func (c *Client) EventAuth(ctx context.Context, server, roomID, eventID string) ([]stdjson.RawMessage, error) {
	var answer struct {
		AuthChain []stdjson.RawMessage `json:"auth_chain"`
	}
	err := c.do(ctx, server, call{
		method: http.MethodGet, target: target("/_matrix/federation/v1/event_auth", roomID, eventID),
		events: true, limit: maxState, timeout: stateTimeout,
	}, &answer)
	if err == nil && answer.AuthChain == nil {
		err = &AnswerError{server, errors.New("an answer without auth_chain")}
	}
	return answer.AuthChain, err
}

// EventAt is an event's id and time.
type EventAt struct {
	EventID        string `json:"event_id"`
	OriginServerTS int64  `json:"origin_server_ts"` // ms
}

// TimestampToEvent is GET /timestamp_to_event: the event closest to the time at (ms),
// forward or backward from there.
func (c *Client) TimestampToEvent(ctx context.Context, server, roomID string, at int64, forward bool) (*EventAt, error) {
	direction := "b"
	if forward {
		direction = "f"
	}
	var answer EventAt
	err := c.do(ctx, server, call{
		method: http.MethodGet, target: target("/_matrix/federation/v1/timestamp_to_event", roomID) +
			query(url.Values{"ts": {strconv.FormatInt(at, 10)}, "dir": {direction}}),
		limit: maxSmall, timeout: usualTimeout,
	}, &answer)
	if err == nil && !matrix.ValidEventID(answer.EventID) {
		err = &AnswerError{server, errors.New("an answer without event_id")}
	}
	return &answer, err
}

// policyKey is the id of the key that a policy server signs events with; the key itself
// stands in the room's m.room.policy.
const policyKey = "ed25519:policy_server"

// PolicySign is POST /_matrix/policy/v1/sign: it gives a policy server's signature of an
// event, in base64, unchecked. A server that refuses is a [*PeerError]; one that is asked too
// often says how long to wait. The policy server may have this server's own name.
func (c *Client) PolicySign(ctx context.Context, server string, event []byte) (string, error) {
	var answer map[string]map[string]string
	err := c.do(ctx, server, call{
		method: http.MethodPost, target: "/_matrix/policy/v1/sign",
		body: event, own: true, limit: maxSmall, timeout: usualTimeout,
	}, &answer)
	if refusal, refused := errors.AsType[*PeerError](err); refused && refusal.Status == http.StatusTooManyRequests {
		return "", matrix.LimitExceeded.With("The room's policy server is asked too often").After(max(refusal.RetryAfter, time.Second)).Because(err)
	}
	if err != nil {
		return "", err
	}
	signature := answer[server][policyKey]
	if signature == "" {
		return "", &AnswerError{server, errors.New("an answer without the policy server's signature")}
	}
	return signature, nil
}
