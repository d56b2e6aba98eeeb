package account

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxAccountData bounds one type of account data, in bytes. Lists of contacts
	// (m.direct) and of ignored users grow with the people somebody knows.
	maxAccountData = 256 << 10
	// maxAllAccountData bounds all account data of a user, which a first sync sends
	// at once.
	maxAllAccountData = 8 << 20
	maxAccountType    = 255
)

// errServerManaged answers to writes of account data that the server itself keeps
// (client-server API, "Client Config").
var errServerManaged = &matrix.Error{Status: http.StatusMethodNotAllowed, Code: "M_BAD_JSON",
	Message: "This account data is kept by the server and has endpoints of its own"}

// errAccountRoom answers alike for rooms that are unknown and rooms that the user
// never had to do with.
var errAccountRoom = matrix.NotFound.With("You have nothing to do with this room, or it does not exist")

// AccountData is one type of a user's account data, a JSON object. RoomID is ""
// for that of the account. M_NOT_FOUND, M_INVALID_PARAM.
func (a *Accounts) AccountData(ctx context.Context, userID, roomID, dataType string) (json.RawMessage, error) {
	room, err := a.accountRoom(ctx, userID, roomID)
	if err != nil {
		return nil, err
	}
	d, err := a.db.AccountData(ctx, userID, room, dataType)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("There is no such account data").Because(err)
	}
	return d.Content, err
}

// SetAccountData sets one type of a user's account data to a JSON object. RoomID is
// "" for that of the account. M_BAD_JSON (with status 405 for what the server
// keeps), M_INVALID_PARAM, M_TOO_LARGE, M_NOT_FOUND for a room that the user never
// had to do with.
func (a *Accounts) SetAccountData(ctx context.Context, userID, roomID, dataType string, content json.RawMessage) error {
	if dataType == "m.fully_read" || dataType == "m.push_rules" {
		return errServerManaged
	}
	if dataType == "" || len(dataType) > maxAccountType {
		return matrix.InvalidParam.Withf("The type of account data has 1 to %d bytes", maxAccountType)
	}
	canonical, err := matrix.CanonicalJSON(content, false)
	if err != nil || canonical[0] != '{' {
		return matrix.BadJSON.With("Account data must be a JSON object").Because(err)
	}
	return a.updateAccountData(ctx, userID, roomID, dataType, func(json.RawMessage) (json.RawMessage, error) {
		return canonical, nil
	})
}

// updateAccountData replaces account data by what fn makes of it, within bounds.
func (a *Accounts) updateAccountData(ctx context.Context, userID, roomID, dataType string,
	fn func(old json.RawMessage) (json.RawMessage, error)) error {
	room, err := a.accountRoom(ctx, userID, roomID)
	if err != nil {
		return err
	}
	all, err := a.db.AccountDataSize(ctx, userID)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.UpdateAccountData(ctx, userID, room, dataType, func(old json.RawMessage) (json.RawMessage, error) {
			content, err := fn(old)
			switch grown := len(content) - len(old); {
			case err != nil:
				return nil, err
			case len(content) > maxAccountData:
				return nil, matrix.TooLarge.Withf("Account data of one type may have at most %d bytes", maxAccountData)
			case grown > 0 && all+int64(grown) > maxAllAccountData:
				return nil, matrix.TooLarge.Withf("All account data together may have at most %d bytes", maxAllAccountData)
			}
			return content, nil
		})
	})
}

// accountRoom is the number of a room that the user is or was in, or is invited to;
// 0 for "".
func (a *Accounts) accountRoom(ctx context.Context, userID, roomID string) (int64, error) {
	if roomID == "" {
		return 0, nil
	}
	if !matrix.ValidRoomID(roomID) {
		return 0, matrix.InvalidParam.With("This is not a room id")
	}
	room, err := a.db.RoomByID(ctx, roomID)
	if err == nil {
		_, err = a.db.MembershipIn(ctx, room.Number, userID)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return 0, errAccountRoom.Because(err)
	}
	return room.Number, err
}
