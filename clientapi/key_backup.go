package clientapi

import (
	"context"
	"net/http"

	"beep/account"
	"beep/keys"
	"beep/matrix"
	"beep/web"
)

// maxBackUpBody is how large a request with keys for a backup may be: a client that has
// 10,000 of them to store may do so at once.
const maxBackUpBody = 16 << 20

type newBackupRequest struct {
	Body keys.BackupInfo
}

type newBackupAnswer struct {
	Version string `json:"version"`
}

// newBackup is POST /room_keys/version.
func (a *API) newBackup(ctx context.Context, who *account.Caller, req *newBackupRequest) (*newBackupAnswer, error) {
	version, err := a.keys.NewBackup(ctx, who.UserID, &req.Body)
	return &newBackupAnswer{version}, err
}

type backupRequest struct {
	Version string `path:"version,optional"`
}

// backup is GET /room_keys/version, and the same with a version.
func (a *API) backup(ctx context.Context, who *account.Caller, req *backupRequest) (*keys.Backup, error) {
	return a.keys.Backup(ctx, who.UserID, req.Version)
}

type setBackupRequest struct {
	Version string `path:"version"`
	Body    struct {
		keys.BackupInfo `json:",inline"`
		Version         string `json:"version"`
	}
}

// setBackup is PUT /room_keys/version/{version}.
func (a *API) setBackup(ctx context.Context, who *account.Caller, req *setBackupRequest) (*web.Empty, error) {
	if req.Body.Version != "" && req.Body.Version != req.Version {
		return nil, matrix.InvalidParam.With("The version in the body is not that of the path")
	}
	return nil, a.keys.SetBackup(ctx, who.UserID, req.Version, &req.Body.BackupInfo)
}

type deleteBackupRequest struct {
	Version string `path:"version"`
}

// deleteBackup is DELETE /room_keys/version/{version}.
func (a *API) deleteBackup(ctx context.Context, who *account.Caller, req *deleteBackupRequest) (*web.Empty, error) {
	return nil, a.keys.DeleteBackup(ctx, who.UserID, req.Version)
}

type backUpRequest struct {
	Version string `query:"version"`
	Body    struct {
		Rooms keys.BackedUpRooms `json:"rooms"`
	}
}

// backUp is PUT /room_keys/keys.
func (a *API) backUp(ctx context.Context, who *account.Caller, req *backUpRequest) (*keys.BackupState, error) {
	if req.Body.Rooms == nil {
		return nil, matrix.MissingParam.With("The rooms are missing")
	}
	return a.keys.BackUp(ctx, who.UserID, req.Version, req.Body.Rooms)
}

type backUpRoomRequest struct {
	RoomID  string `path:"roomID"`
	Version string `query:"version"`
	Body    keys.BackedUpRoom
}

// backUpRoom is PUT /room_keys/keys/{roomId}.
func (a *API) backUpRoom(ctx context.Context, who *account.Caller, req *backUpRoomRequest) (*keys.BackupState, error) {
	if req.Body.Sessions == nil {
		return nil, matrix.MissingParam.With("The sessions are missing")
	}
	return a.keys.BackUp(ctx, who.UserID, req.Version, keys.BackedUpRooms{req.RoomID: req.Body})
}

type backUpSessionRequest struct {
	RoomID    string `path:"roomID"`
	SessionID string `path:"sessionID"`
	Version   string `query:"version"`
	Body      keys.BackedUpKey
}

// backUpSession is PUT /room_keys/keys/{roomId}/{sessionId}.
func (a *API) backUpSession(ctx context.Context, who *account.Caller, req *backUpSessionRequest) (*keys.BackupState, error) {
	room := keys.BackedUpRoom{Sessions: map[string]keys.BackedUpKey{req.SessionID: req.Body}}
	return a.keys.BackUp(ctx, who.UserID, req.Version, keys.BackedUpRooms{req.RoomID: room})
}

type backedUpRequest struct {
	RoomID  string `path:"roomID,optional"`
	Version string `query:"version"`
}

// backedUp is GET /room_keys/keys, and the same of a room.
func (a *API) backedUp(ctx context.Context, who *account.Caller, req *backedUpRequest) (*web.Raw, error) {
	content, err := a.keys.BackedUp(ctx, who.UserID, req.Version, req.RoomID)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Cache-Control": {"no-store"}}
	return &web.Raw{ContentType: "application/json", Content: content, Size: -1, Header: header}, nil
}

type backedUpSessionRequest struct {
	RoomID    string `path:"roomID"`
	SessionID string `path:"sessionID"`
	Version   string `query:"version"`
}

// backedUpSession is GET /room_keys/keys/{roomId}/{sessionId}.
func (a *API) backedUpSession(ctx context.Context, who *account.Caller, req *backedUpSessionRequest) (*keys.BackedUpKey, error) {
	return a.keys.BackedUpKey(ctx, who.UserID, req.Version, req.RoomID, req.SessionID)
}

type deleteBackedUpRequest struct {
	RoomID    string `path:"roomID,optional"`
	SessionID string `path:"sessionID,optional"`
	Version   string `query:"version"`
}

// deleteBackedUp is DELETE /room_keys/keys, and the same of a room or a session.
func (a *API) deleteBackedUp(ctx context.Context, who *account.Caller, req *deleteBackedUpRequest) (*keys.BackupState, error) {
	return a.keys.DeleteBackedUp(ctx, who.UserID, req.Version, req.RoomID, req.SessionID)
}
