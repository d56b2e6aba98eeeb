package account

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"beep/matrix"
)

// The stages of user-interactive authentication that this server knows
// ("Authentication types").
const (
	StageDummy             = "m.login.dummy"
	StagePassword          = "m.login.password"
	StageRegistrationToken = "m.login.registration_token"
	StageTerms             = "m.login.terms"
)

const (
	// interactionLifetime is how long people have to prove who they are.
	interactionLifetime = time.Hour
	// repeatLifetime is how long a registration may be repeated whose answer did
	// not arrive.
	repeatLifetime = 10 * time.Minute
	// mostInteractions bounds the memory; beyond it the oldest is forgotten.
	mostInteractions = 10_000
)

// AuthData is the auth member of a request ("User-Interactive Authentication API").
type AuthData struct {
	Type    string `json:"type"`
	Session string `json:"session"`
	// Identifier, or else the deprecated User, and Password are for m.login.password.
	Identifier *Identifier `json:"identifier"`
	User       string      `json:"user"`
	Password   string      `json:"password"`
	// Token is for m.login.registration_token.
	Token string `json:"token"`
}

// empty tells that a client has said nothing of itself yet.
func (d *AuthData) empty() bool { return d == nil || d.Type == "" && d.Session == "" }

// Operation is what a person proves their identity for. A session that was begun
// for one operation is good for no other.
type Operation struct {
	// Name is the method and route.
	Name string
	// UserID is whose account it is about; "" where a password is to tell that.
	UserID string
	// Subject is what it is done to, as a device's id.
	Subject string
}

// Interaction is a session of user-interactive authentication.
type Interaction struct {
	id      string
	op      Operation
	flows   [][]string
	expires time.Time // guarded by interactions.mu

	mu         sync.Mutex
	completed  []string
	userID     string     // whose password was given
	token      string     // the registration token that was given
	remembered newAccount // what a registration asked for so far
	registered string     // the user id that came of it
}

// UserID is the user who has proven their identity.
func (i *Interaction) UserID() string { return i.userID }

// interactions are the sessions that are not complete. They do not outlive the
// process: a client that comes with an unknown one begins anew.
type interactions struct {
	now func() time.Time

	mu   sync.Mutex
	byID *simplelru.LRU[string, *Interaction]
	// reserved has the registration token that each session has been promised.
	reserved map[string]string
}

func newInteractions(now func() time.Time) *interactions {
	all := &interactions{now: now, reserved: make(map[string]string)}
	// The constructor fails only for a size that is not positive. The callback
	// runs while mu is held.
	all.byID, _ = simplelru.NewLRU(mostInteractions, func(id string, _ *Interaction) { delete(all.reserved, id) })
	return all
}

func (all *interactions) begin(op Operation, flows [][]string) *Interaction {
	return &Interaction{id: newSecret(""), op: op, flows: flows, expires: all.now().Add(interactionLifetime)}
}

func (all *interactions) keep(i *Interaction) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if !all.byID.Contains(i.id) {
		all.byID.Add(i.id, i)
	}
}

func (all *interactions) find(id string) (i *Interaction, ok bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	i, ok = all.byID.Get(id)
	return i, ok && all.now().Before(i.expires)
}

func (all *interactions) end(i *Interaction) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.byID.Remove(i.id)
}

// reserve promises a use of a registration token to the session, if less than
// free uses have been promised to others.
func (all *interactions) reserve(i *Interaction, token string, free *int64) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if free != nil && all.countReserved(token) >= *free {
		return false
	}
	if !all.byID.Contains(i.id) {
		all.byID.Add(i.id, i)
	}
	all.reserved[i.id] = token
	return true
}

// settle ends the promise to a session: its registration is done, and may only be
// repeated for a while.
func (all *interactions) settle(i *Interaction) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.reserved, i.id)
	i.expires = all.now().Add(repeatLifetime)
}

// pending is how many sessions hold a use of each registration token.
func (all *interactions) pending() map[string]int64 {
	all.mu.Lock()
	defer all.mu.Unlock()
	count := make(map[string]int64)
	for _, token := range all.reserved {
		count[token]++
	}
	return count
}

func (all *interactions) countReserved(token string) (n int64) {
	for _, reserved := range all.reserved {
		if reserved == token {
			n++
		}
	}
	return n
}

// sweep forgets what has expired.
func (all *interactions) sweep() {
	all.mu.Lock()
	defer all.mu.Unlock()
	now := all.now()
	for _, id := range all.byID.Keys() {
		if i, _ := all.byID.Peek(id); !now.Before(i.expires) {
			all.byID.Remove(id)
		}
	}
}

// Interact lets a person prove with their password that the operation is their
// wish. Without an error they have, this once. Otherwise the error is for the
// client: 401 with what is to be done next, M_FORBIDDEN where the operation or the
// user is another one than before.
func (a *Accounts) Interact(ctx context.Context, op Operation, auth *AuthData) (*Interaction, error) {
	i, err := a.interact(ctx, op, [][]string{{StagePassword}}, auth)
	if err != nil {
		return nil, err
	}
	a.interactions.end(i)
	return i, nil
}

// interact is a step of a session, which it gives even with an error that tells
// what to do next.
func (a *Accounts) interact(ctx context.Context, op Operation, flows [][]string, auth *AuthData) (*Interaction, error) {
	i := a.interactions.begin(op, flows)
	if auth.empty() {
		a.interactions.keep(i)
		return i, a.challenge(i, nil)
	}
	if auth.Session != "" {
		known, ok := a.interactions.find(auth.Session)
		if !ok {
			a.interactions.keep(i)
			return i, a.challenge(i, errUnknownSession)
		}
		if known.op != op {
			return nil, matrix.Forbidden.With("The operation has changed during the authentication session")
		}
		i = known
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	failure, err := a.step(ctx, i, auth)
	if err != nil {
		return nil, err
	}
	if failure == nil && i.complete() {
		return i, nil
	}
	a.interactions.keep(i)
	return i, a.challenge(i, failure)
}

var errUnknownSession = matrix.Forbidden.With("The authentication session is not known, or has expired")

// step tries the stage that the client is at; the caller holds i.mu. Failure is
// why the client may try again.
func (a *Accounts) step(ctx context.Context, i *Interaction, auth *AuthData) (failure *matrix.Error, err error) {
	if auth.Type == "" || slices.Contains(i.completed, auth.Type) {
		return nil, nil
	}
	if !i.isNext(auth.Type) {
		return matrix.Forbidden.With("This is not the next stage of any flow"), nil
	}
	if failure, err = a.try(ctx, i, auth); failure == nil && err == nil {
		i.completed = append(i.completed, auth.Type)
	}
	return failure, err
}

// isNext tells whether some flow goes on with the stage.
func (i *Interaction) isNext(stage string) bool {
	n := len(i.completed)
	return slices.ContainsFunc(i.flows, func(flow []string) bool {
		return len(flow) > n && flow[n] == stage && slices.Equal(flow[:n], i.completed)
	})
}

func (i *Interaction) complete() bool {
	return slices.ContainsFunc(i.flows, func(flow []string) bool { return slices.Equal(flow, i.completed) })
}

// challenge tells the client what to do next, and why it has to if something failed.
func (a *Accounts) challenge(i *Interaction, failure *matrix.Error) error {
	type flow struct {
		Stages []string `json:"stages"`
	}
	told := &matrix.Error{Status: http.StatusUnauthorized}
	if failure != nil {
		told.Code, told.Message = failure.Code, failure.Message
	}
	flows := make([]flow, len(i.flows))
	params := map[string]any{}
	for n, stages := range i.flows {
		flows[n].Stages = stages
		if slices.Contains(stages, StageTerms) {
			params[StageTerms] = map[string]any{"policies": a.options.Registration.policies()}
		}
	}
	told.Fields = map[string]any{
		"flows":     flows,
		"params":    params,
		"session":   i.id,
		"completed": append([]string{}, i.completed...),
	}
	return told
}

// isChallenge tells whether err is of [Accounts.challenge].
func isChallenge(err error) bool {
	told, ok := err.(*matrix.Error)
	return ok && told.Status == http.StatusUnauthorized && told.Fields["flows"] != nil
}

// CompleteStage is a step that a person makes on a web page instead of in their
// client ("Fallback"). M_NOT_FOUND for an unknown session, M_FORBIDDEN where the
// person may try again.
func (a *Accounts) CompleteStage(ctx context.Context, auth *AuthData) error {
	i, ok := a.interactions.find(auth.Session)
	if !ok {
		return matrix.NotFound.With(errUnknownSession.Message)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	failure, err := a.step(ctx, i, auth)
	if err != nil {
		return err
	}
	if failure != nil {
		return failure
	}
	return nil
}

// StageOf tells of a session whether it goes on with a stage or has completed it,
// and whose account it is about. M_NOT_FOUND for an unknown session.
func (a *Accounts) StageOf(session, stage string) (userID string, possible bool, err error) {
	i, ok := a.interactions.find(session)
	if !ok {
		return "", false, matrix.NotFound.With(errUnknownSession.Message)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.op.UserID, i.isNext(stage) || slices.Contains(i.completed, stage), nil
}

// try does what a stage asks for.
func (a *Accounts) try(ctx context.Context, i *Interaction, auth *AuthData) (failure *matrix.Error, err error) {
	switch auth.Type {
	case StageDummy, StageTerms:
		return nil, nil
	case StageRegistrationToken:
		return a.tryRegistrationToken(ctx, i, auth.Token)
	case StagePassword:
		return a.tryPassword(ctx, i, auth)
	}
	return matrix.Forbidden.With("This server does not know this type of authentication"), nil
}

func (a *Accounts) tryPassword(ctx context.Context, i *Interaction, auth *AuthData) (failure *matrix.Error, err error) {
	userID, err := a.CheckPassword(ctx, auth.Identifier, auth.User, auth.Password)
	if err == errWrongPassword {
		return errWrongPassword, nil
	}
	if err != nil {
		return nil, err
	}
	if i.op.UserID != "" && userID != i.op.UserID {
		return nil, matrix.Forbidden.With("This is the password of another user")
	}
	i.userID = userID
	return nil, nil
}

// policies are the documents to accept, in the form of the params of m.login.terms.
func (r *Registration) policies() map[string]map[string]any {
	policies := make(map[string]map[string]any, len(r.Terms))
	for _, terms := range r.Terms {
		policy := map[string]any{"version": terms.Version}
		for language, text := range terms.Languages {
			policy[language] = text
		}
		policies[terms.Name] = policy
	}
	return policies
}
