package account

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/storage"
)

// Registration says who may make an account.
type Registration struct {
	// Open lets anybody register.
	Open bool
	// TokenRequired asks them for a registration token.
	TokenRequired bool
	// Guests lets anybody look around without an account.
	Guests bool
	// SharedSecret lets scripts make accounts; "" means that none can.
	SharedSecret string
	// Terms are documents that people must accept to register.
	Terms []Terms
}

// Terms is a document to accept ("Terms of service at registration").
type Terms struct {
	Name      string // for programs
	Version   string
	Languages map[string]TermsText
}

// TermsText is a document in one language.
type TermsText struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// Terms are the documents that people must accept to register.
func (a *Accounts) Terms() []Terms { return a.options.Registration.Terms }

// NewAccount is what somebody asks for who registers.
type NewAccount struct {
	// Username is the localpart; "" lets the server choose.
	Username string
	Password string
	Device   DeviceRequest
	// InhibitLogin makes no session.
	InhibitLogin bool
	// GuestToken is the access token of the guest who wants to become a user.
	GuestToken string
}

// newAccount is a NewAccount without its secrets.
type newAccount struct {
	username     string
	passwordHash string
	device       DeviceRequest
	inhibitLogin bool
	guest        string // the user id of the guest
}

var (
	errRegistrationClosed = matrix.Forbidden.With("Registration is not open on this server")
	registerOperation     = Operation{Name: "POST /register"}
)

// Register makes an account once the person has gone through the stages that the
// server asks for. A request that belongs to a session need not repeat what an
// earlier one said; one that repeats the last is answered with the same account.
//
// The error may be the 401 of [Accounts.Interact], M_USER_IN_USE,
// M_INVALID_USERNAME, M_EXCLUSIVE, M_WEAK_PASSWORD, M_INVALID_PARAM,
// M_MISSING_PARAM, M_FORBIDDEN.
func (a *Accounts) Register(ctx context.Context, n NewAccount, auth *AuthData) (*Session, error) {
	if !a.options.Registration.Open {
		return nil, errRegistrationClosed
	}
	wanted, done, err := a.recall(ctx, &n, auth)
	if err != nil {
		return nil, err
	}
	if done != "" {
		return a.repeatRegistration(ctx, done, wanted)
	}
	if err := a.checkWanted(ctx, &n, wanted); err != nil {
		return nil, err
	}
	i, err := a.interact(ctx, registerOperation, a.registrationFlows(), auth)
	if isChallenge(err) {
		if failed := a.remember(ctx, i, &n, wanted); failed != nil {
			return nil, failed
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.registered != "" {
		return a.repeatRegistration(ctx, i.registered, wanted)
	}
	return a.finishRegistration(ctx, i, &n, wanted)
}

// registrationFlows are the stages of a registration: one flow.
func (a *Accounts) registrationFlows() [][]string {
	var flow []string
	if a.options.Registration.TokenRequired {
		flow = append(flow, StageRegistrationToken)
	}
	if len(a.options.Registration.Terms) > 0 {
		flow = append(flow, StageTerms)
	}
	if flow == nil {
		flow = []string{StageDummy}
	}
	return [][]string{flow}
}

// recall puts together what this request and the earlier ones of its session ask
// for. Done is the user id if the session's registration is complete.
func (a *Accounts) recall(ctx context.Context, n *NewAccount, auth *AuthData) (wanted newAccount, done string, err error) {
	wanted = newAccount{username: lower(n.Username), device: n.Device, inhibitLogin: n.InhibitLogin}
	if n.GuestToken != "" {
		if wanted.guest, err = a.guestToUpgrade(ctx, n.GuestToken, wanted.username); err != nil {
			return wanted, "", err
		}
	}
	if auth == nil || auth.Session == "" {
		return wanted, "", nil
	}
	i, ok := a.interactions.find(auth.Session)
	if !ok || i.op != registerOperation {
		return wanted, "", nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	said := &i.remembered
	if wanted.username != "" && said.username != "" && wanted.username != said.username {
		return wanted, "", matrix.Forbidden.With("The user name has changed during the authentication session")
	}
	wanted.username = or(wanted.username, said.username)
	wanted.passwordHash = said.passwordHash
	wanted.device.DeviceID = or(wanted.device.DeviceID, said.device.DeviceID)
	wanted.device.DisplayName = or(wanted.device.DisplayName, said.device.DisplayName)
	wanted.device.Refresh = wanted.device.Refresh || said.device.Refresh
	wanted.inhibitLogin = wanted.inhibitLogin || said.inhibitLogin
	wanted.guest = or(wanted.guest, said.guest)
	return wanted, i.registered, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// guestToUpgrade is the guest whose token it is, who has to keep the name ("Guest
// Access"). M_UNKNOWN_TOKEN, M_INVALID_USERNAME.
func (a *Accounts) guestToUpgrade(ctx context.Context, token, username string) (userID string, err error) {
	s, err := a.session(ctx, storage.HashToken(token))
	if err != nil {
		return "", err
	}
	if !s.caller.Guest {
		return "", matrix.Forbidden.With("This is not the access token of a guest")
	}
	if s.caller.UserID != a.userID(username) {
		return "", matrix.InvalidUsername.With("A guest who becomes a user keeps the name")
	}
	return s.caller.UserID, nil
}

// checkWanted refuses what cannot be registered, before anybody goes through the
// stages for it.
func (a *Accounts) checkWanted(ctx context.Context, n *NewAccount, wanted newAccount) error {
	if err := wanted.device.check(); err != nil {
		return err
	}
	if n.Password != "" {
		if err := a.CheckNewPassword(n.Password); err != nil {
			return err
		}
	}
	if wanted.username == "" || wanted.guest != "" {
		return nil
	}
	userID, err := a.NewUserID(wanted.username)
	if err != nil {
		return err
	}
	return a.available(ctx, userID)
}

// remember keeps in the session what was asked for. Of the password it keeps the
// hash: nothing can be read back from it.
func (a *Accounts) remember(ctx context.Context, i *Interaction, n *NewAccount, wanted newAccount) error {
	if wanted.passwordHash == "" && n.Password != "" {
		hash, err := a.hasher.hash(ctx, n.Password)
		if err != nil {
			return err
		}
		wanted.passwordHash = hash
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.remembered = wanted
	return nil
}

// finishRegistration makes the account; the caller holds i.mu.
func (a *Accounts) finishRegistration(ctx context.Context, i *Interaction, n *NewAccount, wanted newAccount) (*Session, error) {
	if n.Password != "" {
		hash, err := a.hasher.hash(ctx, n.Password)
		if err != nil {
			return nil, err
		}
		wanted.passwordHash = hash
	}
	if wanted.passwordHash == "" {
		return nil, matrix.MissingParam.With("The password is missing")
	}
	s, err := a.insertAccount(ctx, i, wanted)
	if errors.Is(err, matrix.UserInUse) || errors.Is(err, matrix.Forbidden) {
		// The session can come to no good end: the client begins anew.
		a.interactions.end(i)
	}
	if err != nil {
		return nil, err
	}
	i.registered = s.UserID
	a.interactions.settle(i)
	return s, nil
}

func (a *Accounts) insertAccount(ctx context.Context, i *Interaction, wanted newAccount) (*Session, error) {
	if wanted.username == "" {
		wanted.username = newLocalpart()
	}
	user := storage.Credentials{User: User{ID: a.userID(wanted.username), Created: a.nowMS()}, Password: wanted.passwordHash}
	var s *Session
	err := a.db.Write(ctx, func(tx *storage.Tx) (err error) {
		if err := a.useRegistrationToken(ctx, tx, i.token); err != nil {
			return err
		}
		if err := a.insertOrUpgrade(ctx, tx, &user, wanted.guest); err != nil {
			return err
		}
		for _, terms := range a.options.Registration.Terms {
			if err := tx.AcceptTerms(ctx, user.ID, terms.Name, terms.Version, user.Created); err != nil {
				return err
			}
		}
		s, err = a.firstSession(ctx, tx, user.ID, wanted)
		return err
	})
	return s, inUse(err)
}

func (a *Accounts) insertOrUpgrade(ctx context.Context, tx *storage.Tx, user *storage.Credentials, guest string) error {
	if guest == "" {
		return insertUser(ctx, tx, user, "")
	}
	if err := tx.UpgradeGuest(ctx, guest, user.Password); err != nil {
		return unknownUser(err)
	}
	tokens, err := tx.AccessTokens(ctx, guest)
	tx.AfterCommit(func() { a.cache.drop(tokens) })
	return err
}

// firstSession logs a new user in, unless it was asked not to.
func (a *Accounts) firstSession(ctx context.Context, tx *storage.Tx, userID string, wanted newAccount) (*Session, error) {
	if wanted.inhibitLogin {
		return &Session{UserID: userID}, nil
	}
	return a.openSession(ctx, tx, userID, wanted.device)
}

// repeatRegistration answers a client that did not hear that it was registered.
func (a *Accounts) repeatRegistration(ctx context.Context, userID string, wanted newAccount) (*Session, error) {
	if wanted.inhibitLogin {
		return &Session{UserID: userID}, nil
	}
	return a.OpenSession(ctx, userID, wanted.device)
}

// RegisterGuest makes an account for a guest. M_FORBIDDEN where there are none.
func (a *Accounts) RegisterGuest(ctx context.Context, displayName string) (*Session, error) {
	if !a.options.Registration.Guests {
		return nil, matrix.Forbidden.With("Guests are not welcome on this server")
	}
	device := DeviceRequest{DisplayName: displayName}
	if err := device.check(); err != nil {
		return nil, err
	}
	user := storage.Credentials{User: User{ID: a.userID(newLocalpart()), Created: a.nowMS(), Guest: true}}
	return a.insertWithSession(ctx, &user, newAccount{device: device})
}

// RegisterByAppservice makes a user of an application service (application service
// API, "Server admin style permissions"). M_EXCLUSIVE, M_USER_IN_USE,
// M_INVALID_USERNAME, M_INVALID_PARAM.
func (a *Accounts) RegisterByAppservice(ctx context.Context, as *Appservice, n NewAccount) (*Session, error) {
	if n.Username == "" {
		return nil, matrix.MissingParam.With("The username is missing")
	}
	userID, err := a.NewUserID(n.Username)
	if err != nil {
		return nil, err
	}
	if !as.Covers(userID) || a.exclusive(userID, as) {
		return nil, matrix.Exclusive
	}
	if err := n.Device.check(); err != nil {
		return nil, err
	}
	user := storage.Credentials{User: User{ID: userID, Created: a.nowMS(), Appservice: as.ID}}
	return a.insertWithSession(ctx, &user, newAccount{device: n.Device, inhibitLogin: n.InhibitLogin})
}

func (a *Accounts) insertWithSession(ctx context.Context, user *storage.Credentials, wanted newAccount) (*Session, error) {
	var s *Session
	err := a.db.Write(ctx, func(tx *storage.Tx) (err error) {
		if err := insertUser(ctx, tx, user, ""); err != nil {
			return err
		}
		s, err = a.firstSession(ctx, tx, user.ID, wanted)
		return err
	})
	return s, inUse(err)
}
