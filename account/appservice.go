package account

import (
	"context"
	"errors"
	"net/http"
	"regexp"

	"beep/matrix"
	"beep/storage"
	"beep/web"
)

// Appservice is what accounts need to know of an application service's
// registration (application service API, "Registration").
type Appservice struct {
	ID string
	// Token is the as_token.
	Token string
	// Sender is the user id made of sender_localpart.
	Sender string
	// Users are the namespaces of user ids.
	Users []Namespace
	// Limited tells that rate limits hold for it.
	Limited bool
}

// Namespace is a set of ids. Nobody else may make ids in an exclusive one.
type Namespace struct {
	Exclusive bool
	Pattern   *regexp.Regexp
}

// Covers tells whether the application service may act as the user.
func (as *Appservice) Covers(userID string) bool {
	return userID == as.Sender || as.inNamespace(userID, false)
}

func (as *Appservice) inNamespace(userID string, exclusive bool) bool {
	for _, n := range as.Users {
		if (n.Exclusive || !exclusive) && n.Pattern.MatchString(userID) {
			return true
		}
	}
	return false
}

func appservicesByToken(all []Appservice) map[storage.Hash]*Appservice {
	byToken := make(map[storage.Hash]*Appservice, len(all))
	for i := range all {
		byToken[storage.HashToken(all[i].Token)] = &all[i]
	}
	return byToken
}

// HasAppservices tells whether any application service is registered.
func (a *Accounts) HasAppservices() bool { return len(a.appservices) > 0 }

// exclusive tells whether a user id is kept for another application service than
// the one that asks, which is nil for people.
func (a *Accounts) exclusive(userID string, asks *Appservice) bool {
	for _, as := range a.appservices {
		if as != asks && (userID == as.Sender || as.inNamespace(userID, true)) {
			return true
		}
	}
	return false
}

// AppserviceOf is the application service whose as_token the request carries.
// M_MISSING_TOKEN, M_UNKNOWN_TOKEN.
func (a *Accounts) AppserviceOf(r *http.Request) (*Appservice, error) {
	token, ok := web.BearerToken(r)
	if !ok {
		return nil, matrix.MissingToken
	}
	as, ok := a.appservices[storage.HashToken(token)]
	if !ok {
		return nil, matrix.UnknownToken.With("This is not the token of an application service")
	}
	return as, nil
}

// assert is an application service's request as one of its users ("Identity
// assertion"). M_FORBIDDEN, M_UNKNOWN_DEVICE.
func (a *Accounts) assert(ctx context.Context, as *Appservice, userID, deviceID string) (*Caller, error) {
	if userID == "" {
		userID = as.Sender
	}
	if !as.Covers(userID) || !matrix.ValidUserID(userID) {
		return nil, matrix.Forbidden.With("The application service cannot act as this user")
	}
	user, err := a.db.User(ctx, userID)
	switch {
	case errors.Is(err, storage.ErrNotFound) && userID == as.Sender:
		// Its own user need not be registered.
		user = User{ID: userID}
	case errors.Is(err, storage.ErrNotFound):
		return nil, matrix.Forbidden.With("The application service has not registered this user")
	case err != nil:
		return nil, err
	case user.Deactivated:
		return nil, matrix.Forbidden.With("This user has been deactivated")
	}
	if deviceID != "" {
		_, err := a.Device(ctx, userID, deviceID)
		if errors.Is(err, matrix.NotFound) {
			return nil, errUnknownDevice
		}
		if err != nil {
			return nil, err
		}
	}
	return &Caller{UserID: userID, DeviceID: deviceID, Appservice: as, Suspended: user.Suspended}, nil
}

var errUnknownDevice = &matrix.Error{Status: http.StatusBadRequest, Code: "M_UNKNOWN_DEVICE", Message: "The user has no such device"}
