package mediaapi

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"

	"beep/account"
	"beep/matrix"
	"beep/storage"
	"beep/web"
)

// maxName bounds the name of a file, in bytes.
const maxName = 1024

type uploadRequest struct {
	ContentType string `header:"Content-Type"`
	FileName    string `query:"filename"`
	Body        io.Reader
}

type uploadAnswer struct {
	ContentURI string `json:"content_uri"`
}

// upload is POST /upload.
func (a *API) upload(ctx context.Context, who *account.Caller, req *uploadRequest) (*uploadAnswer, error) {
	m, err := a.draft(who, rand.Text(), req.ContentType, req.FileName)
	if err != nil {
		return nil, err
	}
	if err := a.receive(ctx, m, req.Body, func(tx *storage.Tx) error { return tx.InsertMedia(ctx, m) }); err != nil {
		return nil, err
	}
	return &uploadAnswer{a.uri(m.ID)}, nil
}

type createAnswer struct {
	ContentURI string `json:"content_uri"`
	ExpiresAt  int64  `json:"unused_expires_at"`
}

// create is POST /create: a URI for what is uploaded later.
func (a *API) create(ctx context.Context, who *account.Caller, _ *struct{}) (*createAnswer, error) {
	now := nowMS()
	m := &storage.Media{ID: rand.Text(), UserID: who.UserID, Created: now, Expires: now + a.Config.PendingLifetime.Milliseconds()}
	err := a.DB.Write(ctx, func(tx *storage.Tx) error {
		// This lets the user's requests take turns.
		if _, _, err := tx.CountUpload(ctx, who.UserID, 0, 0); err != nil {
			return err
		}
		pending, err := tx.PendingMedia(ctx, who.UserID, now)
		if err == nil && pending >= int64(a.Config.PendingUploads) {
			return matrix.LimitExceeded.With("Too many uploads are pending; upload what was created, or wait until it expires")
		}
		if err != nil {
			return err
		}
		return tx.InsertMedia(ctx, m)
	})
	if err != nil {
		return nil, err
	}
	return &createAnswer{a.uri(m.ID), m.Expires}, nil
}

type uploadToRequest struct {
	ServerName  string `path:"serverName"`
	MediaID     string `path:"mediaID"`
	ContentType string `header:"Content-Type"`
	FileName    string `query:"filename"`
	Body        io.Reader
}

// uploadTo is PUT /upload/{serverName}/{mediaId}: the upload for a URI that was created.
func (a *API) uploadTo(ctx context.Context, who *account.Caller, req *uploadToRequest) (*web.Empty, error) {
	m, err := a.draft(who, req.MediaID, req.ContentType, req.FileName)
	if err != nil {
		return nil, err
	}
	if req.ServerName != a.ServerName || !validMediaID(req.MediaID) {
		return nil, errUnknownURI
	}
	if err := a.awaitsUpload(ctx, who, req.MediaID); err != nil {
		return nil, err
	}
	err = a.receive(ctx, m, req.Body, func(tx *storage.Tx) error { return tx.FillMedia(ctx, m, nowMS()) })
	if errors.Is(err, storage.ErrNotFound) {
		// Another upload was faster, or the time is over.
		if err := a.awaitsUpload(ctx, who, req.MediaID); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	a.arrivals.announce(m.ID)
	return nil, nil
}

var errUnknownURI = matrix.NotFound.With("There is no such URI for an upload, or it has expired")

// awaitsUpload tells what stands against an upload for a URI.
func (a *API) awaitsUpload(ctx context.Context, who *account.Caller, id string) error {
	m, err := a.DB.Media(ctx, "", id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errUnknownURI
	case err != nil:
		return err
	case m.UserID != who.UserID:
		return matrix.Forbidden.With("This URI was created by another user")
	case m.Expires == 0:
		return matrix.CannotOverwriteMedia
	case m.Expires <= nowMS():
		return errUnknownURI
	}
	return nil
}

// draft is what a user uploads, without the file.
func (a *API) draft(who *account.Caller, id, contentType, name string) (*storage.Media, error) {
	if len(name) > maxName {
		return nil, matrix.InvalidParam.Withf("The name of a file has at most %d bytes", maxName)
	}
	return &storage.Media{ID: id, UserID: who.UserID, Created: nowMS(), ContentType: cleanType(contentType), Name: name, Frozen: a.Config.Freeze}, nil
}

// receive takes the file of m and records it.
func (a *API) receive(ctx context.Context, m *storage.Media, body io.Reader, record func(tx *storage.Tx) error) error {
	files, bytes, err := a.DB.Uploaded(ctx, m.UserID)
	if err != nil {
		return err
	}
	if err := a.withinQuota(files+1, bytes); err != nil {
		return err
	}
	from := &watched{from: body}
	r, err := a.files.receive(from)
	if from.err != nil {
		return brokenUpload(from.err)
	}
	if err != nil {
		return err
	}
	m.Hash, m.Size = r.hash, r.size
	err = a.keep(ctx, r, func(tx *storage.Tx) error {
		files, bytes, err := tx.CountUpload(ctx, m.UserID, 1, m.Size)
		if err != nil {
			return err
		}
		if err := a.withinQuota(files, bytes); err != nil {
			return err
		}
		return record(tx)
	})
	if err == nil {
		a.metrics.uploaded.Add(float64(m.Size))
	}
	return err
}

// watched remembers the error that ended the reading, so that faults of who sends are told
// from faults of the disk.
type watched struct {
	from io.Reader
	err  error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// brokenUpload is what a client is told that has sent too much, or not all.
func brokenUpload(err error) error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return err
	}
	return (&matrix.Error{Status: http.StatusBadRequest, Code: matrix.Unknown.Code, Message: "The upload is incomplete"}).Because(err)
}

// withinQuota refuses what a user would have uploaded in all.
func (a *API) withinQuota(files, bytes int64) error {
	var err *matrix.Error
	switch {
	case a.Config.UserFiles > 0 && files > int64(a.Config.UserFiles):
		err = matrix.UserLimitExceeded.Withf("A user may upload %d files", a.Config.UserFiles)
	case a.Config.UserQuota > 0 && bytes > int64(a.Config.UserQuota):
		err = matrix.UserLimitExceeded.Withf("A user may upload %s in all", a.Config.UserQuota)
	default:
		return nil
	}
	if a.Config.QuotaInfoURL == "" { // which that code demands
		return matrix.Forbidden.With(err.Message)
	}
	return err.Field("info_uri", a.Config.QuotaInfoURL)
}

func (a *API) uri(id string) string { return "mxc://" + a.ServerName + "/" + id }
