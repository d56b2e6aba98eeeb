package keys

import (
	"context"
	"errors"
	"io"
	"strconv"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// backupPage is how many keys are read from the database at once.
const backupPage = 1000

// BackedUpKey finds one key of a backup. M_NOT_FOUND.
func (k *Keys) BackedUpKey(ctx context.Context, userID, version, roomID, sessionID string) (*BackedUpKey, error) {
	b, err := k.backup(ctx, userID, version)
	if err != nil {
		return nil, err
	}
	key, err := k.db.BackedUpKey(ctx, b.Version, roomID, sessionID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("There is no such key in the backup").Because(err)
	}
	return &BackedUpKey{&key.FirstMessageIndex, &key.ForwardedCount, &key.IsVerified, key.SessionData}, err
}

// BackedUp gives the keys of a backup, of all rooms if roomID is "", as JSON: as
// [BackedUpRoom], or as an object of [BackedUpRooms] called rooms. There may be too many for
// the memory; they are read as they are sent. M_NOT_FOUND.
func (k *Keys) BackedUp(ctx context.Context, userID, version, roomID string) (io.Reader, error) {
	b, err := k.backup(ctx, userID, version)
	if err != nil {
		return nil, err
	}
	r := &backedUpReader{ctx: ctx, db: &k.db.Reader, version: b.Version, only: roomID}
	return r, r.fill()
}

// backedUpReader reads a backup page by page. Keys that come and go meanwhile may be there
// or not.
type backedUpReader struct {
	ctx     context.Context
	db      *storage.Reader
	version stream.Pos
	only    string // room; "": all

	text     []byte // what is to be read before the next page
	begun    bool
	ended    bool
	room, id string // of the last key
}

// Read implements [io.Reader].
func (r *backedUpReader) Read(b []byte) (int, error) {
	if len(r.text) == 0 && !r.ended {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	if len(r.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.text)
	r.text = r.text[n:]
	return n, nil
}

// fill makes the text of the next page.
func (r *backedUpReader) fill() error {
	var page []storage.BackedUpKey
	var err error
	if r.only == "" {
		page, err = r.db.BackedUpKeys(r.ctx, r.version, r.room, r.id, backupPage)
	} else {
		page, err = r.db.BackedUpKeysOfRoom(r.ctx, r.version, r.only, r.id, backupPage)
	}
	if err != nil {
		return err
	}
	if !r.begun {
		r.begin()
	}
	for i := range page {
		r.add(&page[i])
	}
	if r.ended = len(page) < backupPage; r.ended {
		r.end()
	}
	return nil
}

func (r *backedUpReader) begin() {
	r.begun = true
	if r.only == "" {
		r.text = append(r.text, `{"rooms":{`...)
	} else {
		r.text = append(r.text, `{"sessions":{`...)
	}
}

func (r *backedUpReader) add(key *storage.BackedUpKey) {
	switch {
	case key.RoomID == r.room:
		r.text = append(r.text, ',')
	case r.only == "":
		if r.room != "" {
			r.text = append(r.text, `}},`...)
		}
		r.text = append(matrix.AppendString(r.text, key.RoomID), `:{"sessions":{`...)
	}
	r.room, r.id = key.RoomID, key.SessionID
	r.text = append(matrix.AppendString(r.text, key.SessionID), `:{"first_message_index":`...)
	r.text = strconv.AppendInt(r.text, key.FirstMessageIndex, 10)
	r.text = strconv.AppendInt(append(r.text, `,"forwarded_count":`...), key.ForwardedCount, 10)
	r.text = strconv.AppendBool(append(r.text, `,"is_verified":`...), key.IsVerified)
	r.text = append(append(append(r.text, `,"session_data":`...), key.SessionData...), '}')
}

func (r *backedUpReader) end() {
	if r.only == "" && r.room != "" {
		r.text = append(r.text, `}}`...)
	}
	r.text = append(r.text, `}}`...)
}
