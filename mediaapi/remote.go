package mediaapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// fetchTime bounds a fetch as a whole; the one who fetches has closer bounds.
	fetchTime = 5 * time.Minute
	// maxFetches bounds the fetches at the same time. What they take of the disk counts
	// as it comes.
	maxFetches = 500
	// useEvery is after how many ms it is noted again that a file is wanted.
	useEvery = 3_600_000
)

// limitRemote is the rate limit of fetches.
const limitRemote = "remote_media"

// findRemote finds a file of another server, and fetches it if it is not kept here. Nothing
// is fetched for who does not say who they are, unless the operator has lifted the freeze.
func (a *API) findRemote(ctx context.Context, by *asker, server, id string) (storage.Media, *os.File, error) {
	if a.Admit != nil {
		if err := a.Admit(ctx, server); err != nil {
			return storage.Media{}, nil, err
		}
	}
	m, file, err := a.kept(ctx, server, id)
	switch {
	case err == nil && m.Frozen && !by.proven:
		return m, nil, errors.Join(errNoMedia, file.Close())
	case err == nil:
		return m, file, a.noteUse(ctx, &m)
	case !errors.Is(err, storage.ErrNotFound):
		return m, nil, err
	case !by.allowRemote || a.Remote == nil || a.Config.Freeze && !by.proven:
		return m, nil, errNoMedia
	}
	if !by.unlimited {
		if err := a.Limiter.Allow(limitRemote, by.key); err != nil {
			return m, nil, err
		}
	}
	return a.fetch(ctx, by, server, id)
}

// kept finds a file of another server that was fetched before. [storage.ErrNotFound]: it was
// not, or has been lost.
func (a *API) kept(ctx context.Context, server, id string) (storage.Media, *os.File, error) {
	m, err := a.DB.Media(ctx, server, id)
	if err != nil {
		return m, nil, err
	}
	file, err := a.files.open(m.Hash)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil, storage.ErrNotFound
	}
	return m, file, err
}

// noteUse keeps a file from making room for others, for as long as it is wanted.
func (a *API) noteUse(ctx context.Context, m *storage.Media) error {
	now := nowMS()
	if now-m.Used < useEvery {
		return nil
	}
	return a.DB.Write(ctx, func(tx *storage.Tx) error { return tx.UseMedia(ctx, m.Server, m.ID, now) })
}

// fetch fetches a file once for all who want it at the same time. It goes on when they leave.
func (a *API) fetch(ctx context.Context, by *asker, server, id string) (storage.Media, *os.File, error) {
	wait := by.wait
	ended := a.fetches.DoChan(server+"/"+id, func() (any, error) {
		ctx, done, err := a.tasks.begin(fetchTime)
		if err != nil {
			return nil, err
		}
		defer done()
		return nil, a.fetchOnce(ctx, server, id, wait)
	})
	select {
	case result := <-ended:
		if result.Err != nil {
			return storage.Media{}, nil, result.Err
		}
		m, file, err := a.kept(ctx, server, id)
		if errors.Is(err, storage.ErrNotFound) {
			return m, nil, matrix.ServiceUnavailable.Because(errors.New("a file had to make room at once"))
		}
		return m, file, err
	case <-ctx.Done():
		return storage.Media{}, nil, ctx.Err()
	}
}

// fetchOnce fetches a file and keeps it.
func (a *API) fetchOnce(ctx context.Context, server, id string, wait time.Duration) error {
	_, file, err := a.kept(ctx, server, id)
	if !errors.Is(err, storage.ErrNotFound) { // somebody else was faster
		if err == nil {
			err = file.Close()
		}
		return err
	}
	if !a.fetching.TryAcquire(1) {
		return errNoRoom
	}
	defer a.fetching.Release(1)
	m := &storage.Media{Server: server, ID: id, Frozen: a.Config.Freeze}
	err = a.Remote.Media(ctx, server, id, int64(a.Config.MaxRemote), wait, func(contentType, disposition string, content io.Reader) error {
		m.ContentType, m.Name = cleanType(contentType), nameIn(disposition)
		return a.keepRemote(ctx, m, content)
	})
	var told *matrix.Error
	switch {
	case err == nil:
		a.metrics.fetched.Inc()
	case errors.As(err, &told) && told.Status < http.StatusInternalServerError:
		a.metrics.refused.Inc()
	default:
		a.metrics.failed.Inc()
	}
	return err
}

// keepRemote keeps a file of another server.
func (a *API) keepRemote(ctx context.Context, m *storage.Media, content io.Reader) error {
	room := &roomMaker{api: a, ctx: ctx, from: content}
	r, err := a.files.receive(room)
	if err == nil {
		m.Hash, m.Size, m.Created = r.hash, r.size, nowMS()
		m.Used = m.Created
		err = a.keep(ctx, r, func(tx *storage.Tx) error { return tx.ReplaceMedia(ctx, m) })
	}
	if err != nil {
		a.cache.add(-room.made)
	}
	return err
}

// roomMaker makes room for what comes.
type roomMaker struct {
	api  *API
	ctx  context.Context
	from io.Reader
	made int64
}

// Read serves [io.Reader].
func (r *roomMaker) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if roomErr := r.api.makeRoom(r.ctx, int64(n)); roomErr != nil {
		return 0, roomErr
	}
	r.made += int64(n)
	return n, err
}
