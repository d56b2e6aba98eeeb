package main

import (
	"context"
	"log/slog"
	"net/http"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

// userAdmin is what the user commands do. The running server does it for them, so
// that it knows of every change at once; while none runs, the command does it
// itself.
//
// A name is a user ID or a localpart. Errors for the person at the terminal are
// [matrix.Error].
type userAdmin interface {
	// ServerName is the name at the end of every user ID.
	ServerName(ctx context.Context) (string, error)
	// Create makes an account and gives its user ID.
	Create(ctx context.Context, name, password string, admin bool) (userID string, err error)
	// ResetPassword gives the account a new password. Unless keepDevices, its devices
	// are logged out.
	ResetPassword(ctx context.Context, name, password string, keepDevices bool) (userID string, err error)
	// Deactivate ends the account for good.
	Deactivate(ctx context.Context, name string, erase bool) (userID string, err error)
	// List gives at most limit accounts, by user ID, that come after the given one.
	List(ctx context.Context, after string, limit int) ([]account.User, error)
}

// localUsers is the accounts of this process.
type localUsers struct{ accounts *account.Accounts }

// ServerName serves userAdmin.
func (u localUsers) ServerName(context.Context) (string, error) { return u.accounts.ServerName(), nil }

// Create serves userAdmin.
func (u localUsers) Create(ctx context.Context, name, password string, admin bool) (string, error) {
	localpart, err := u.localpart(name)
	if err != nil {
		return "", err
	}
	return u.accounts.CreateUser(ctx, localpart, password, admin)
}

// ResetPassword serves userAdmin.
func (u localUsers) ResetPassword(ctx context.Context, name, password string, keepDevices bool) (string, error) {
	userID, err := u.userID(name)
	if err != nil {
		return "", err
	}
	return userID, u.accounts.SetPassword(ctx, userID, password, !keepDevices)
}

// Deactivate serves userAdmin.
func (u localUsers) Deactivate(ctx context.Context, name string, erase bool) (string, error) {
	userID, err := u.userID(name)
	if err != nil {
		return "", err
	}
	return userID, u.accounts.Deactivate(ctx, userID, erase)
}

// List serves userAdmin.
func (u localUsers) List(ctx context.Context, after string, limit int) ([]account.User, error) {
	return u.accounts.List(ctx, after, limit)
}

func (u localUsers) userID(name string) (string, error) {
	userID, ok := u.accounts.LocalUserID(name)
	if !ok {
		return "", matrix.InvalidUsername.Withf("%q is not the name of a user of %s", name, u.accounts.ServerName())
	}
	return userID, nil
}

// localpart takes a user ID of this server apart; any other name stays as it is.
func (u localUsers) localpart(name string) (string, error) {
	if name == "" || name[0] != '@' {
		return name, nil
	}
	userID, err := u.userID(name)
	if err != nil {
		return "", err
	}
	localpart, _, _ := matrix.SplitID('@', userID)
	return localpart, nil
}

// The control socket's API: userAdmin over HTTP, for the commands of the same
// program. Who may open the socket may do everything.
const (
	controlServer     = "/server"
	controlUsers      = "/users"
	controlCreate     = "/users/create"
	controlReset      = "/users/reset-password"
	controlDeactivate = "/users/deactivate"
)

type controlServerResponse struct {
	ServerName string `json:"server_name"`
}

type controlUserRequest struct {
	Body controlUserBody
}

type controlUserBody struct {
	Name        string `json:"name"`
	Password    string `json:"password"`
	Admin       bool   `json:"admin"`
	KeepDevices bool   `json:"keep_devices"`
	Erase       bool   `json:"erase"`
}

type controlUserResponse struct {
	UserID string `json:"user_id"`
}

type controlListRequest struct {
	After string `query:"after"`
	Limit int    `query:"limit"`
}

type controlListResponse struct {
	Users []account.User `json:"users"`
}

// controlListMax is how many users one answer has at most.
const controlListMax = 1000

// controlRoutes serves users to the commands of this program.
func controlRoutes(users userAdmin, log *slog.Logger) http.Handler {
	rt := web.NewRouter(web.Options{Logger: log})
	web.GET(rt, controlServer, web.Anyone, func(ctx context.Context, _ web.Nobody, _ *struct{}) (*controlServerResponse, error) {
		name, err := users.ServerName(ctx)
		return &controlServerResponse{name}, err
	})
	web.GET(rt, controlUsers, web.Anyone, func(ctx context.Context, _ web.Nobody, req *controlListRequest) (*controlListResponse, error) {
		list, err := users.List(ctx, req.After, min(req.Limit, controlListMax))
		return &controlListResponse{list}, err
	})
	change := func(path string, do func(ctx context.Context, body *controlUserBody) (string, error)) {
		web.POST(rt, path, web.Anyone, func(ctx context.Context, _ web.Nobody, req *controlUserRequest) (*controlUserResponse, error) {
			userID, err := do(ctx, &req.Body)
			return &controlUserResponse{userID}, err
		})
	}
	change(controlCreate, func(ctx context.Context, b *controlUserBody) (string, error) {
		return users.Create(ctx, b.Name, b.Password, b.Admin)
	})
	change(controlReset, func(ctx context.Context, b *controlUserBody) (string, error) {
		return users.ResetPassword(ctx, b.Name, b.Password, b.KeepDevices)
	})
	change(controlDeactivate, func(ctx context.Context, b *controlUserBody) (string, error) {
		return users.Deactivate(ctx, b.Name, b.Erase)
	})
	return rt
}
