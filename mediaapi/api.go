// Package mediaapi is the content repository: what clients upload and download, what other
// servers ask for, and what is fetched from them.
//
// The files lie in a directory, named by their hashes, so that equal ones are kept once;
// the database knows what they are called by and of whom. A file is whole and on the disk
// before the database knows it; files that the database does not know are removed.
package mediaapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"beep/account"
	"beep/config"
	"beep/matrix"
	"beep/storage"
	"beep/web"
)

// Remote is what the API asks of other servers.
type Remote interface {
	// Media opens what another server has under an id, of at most limit bytes. take gets
	// the headers Content-Type and Content-Disposition, which may be empty, and the
	// content; its error is given back. wait is how long that server may wait for a file
	// that is not uploaded yet.
	Media(ctx context.Context, server, mediaID string, limit int64, wait time.Duration, take func(contentType, disposition string, content io.Reader) error) error
}

// Options are what the API stands on.
type Options struct {
	DB       *storage.DB
	Accounts *account.Accounts
	// ServerName is that of mxc:// URIs of this server.
	ServerName string
	Config     config.Media
	// Remote asks other servers; nil for a server that is alone.
	Remote Remote
	// Admit, if not nil, is asked before something of another server is given to anybody.
	Admit func(ctx context.Context, server string) error
	// Limiter has the kind remote_media; nil means no limits.
	Limiter *web.Limiter
	// Metrics is where the metrics are registered; it may be nil.
	Metrics *prometheus.Registry
	// Logger takes what happens beside the requests; nil discards it.
	Logger *slog.Logger
}

// API has the handlers.
type API struct {
	Options
	files    *files
	metrics  *metrics
	arrivals *arrivals
	cache    *cache
	tasks    *tasks
	fetches  singleflight.Group  // by server and id
	fetching *semaphore.Weighted // fetches that are under way
	making   singleflight.Group  // thumbnails, by image and size
	decoding *semaphore.Weighted // pixels of images that are in memory
}

// Open is the API over these parts. It makes the directory of the files, which belongs to
// this process alone. Call [API.Run] beside it.
func Open(ctx context.Context, o Options) (*API, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	stored, err := openFiles(o.Config.Path)
	if err != nil {
		return nil, fmt.Errorf("the directory of media: %w", err)
	}
	kept, err := o.DB.RemoteMediaBytes(ctx)
	if err != nil {
		return nil, err
	}
	c := &cache{bytes: kept}
	return &API{
		Options: o, files: stored, metrics: newMetrics(o.Metrics, c), arrivals: newArrivals(), cache: c, tasks: newTasks(),
		fetching: semaphore.NewWeighted(maxFetches), decoding: semaphore.NewWeighted(int64(o.Config.MaxPixels)),
	}, nil
}

// Routes registers the routes for clients.
func (a *API) Routes(rt *web.Router) {
	const media = "/_matrix/media/v3"
	const client = "/_matrix/client/v1/media"
	upload, download, other := web.Limit("upload"), web.Limit("media"), web.Limit("other")
	size := web.MaxBody(int64(a.Config.MaxUpload))
	waits := web.LongPoll()

	web.POST(rt, media+"/upload", a.uploader, a.upload, upload, size, waits)
	web.PUT(rt, media+"/upload/{serverName}/{mediaID}", a.uploader, a.uploadTo, upload, size, waits)
	web.POST(rt, "/_matrix/media/v1/create", a.uploader, a.create, upload, web.OptionalBody())

	web.GET(rt, client+"/config", a.Accounts.AuthenticateUser, a.config, other, web.Also(media+"/config"))
	web.GET(rt, client+"/download/{serverName}/{mediaID}", a.Accounts.Authenticate, a.download, download, waits,
		web.Also(client+"/download/{serverName}/{mediaID}/{fileName}"))
	web.GET(rt, media+"/download/{serverName}/{mediaID}", web.Anyone, a.downloadOpenly, download, waits,
		web.Also(media+"/download/{serverName}/{mediaID}/{fileName}"))
	web.GET(rt, client+"/thumbnail/{serverName}/{mediaID}", a.Accounts.Authenticate, a.userThumbnail, download, waits)
	web.GET(rt, media+"/thumbnail/{serverName}/{mediaID}", web.Anyone, a.openThumbnail, download, waits)
}

// uploader is the authentication of those who may upload: neither guests nor suspended
// accounts ("Account suspension").
func (a *API) uploader(r *http.Request) (*account.Caller, error) {
	who, err := a.Accounts.AuthenticateUser(r)
	if err == nil && who.Suspended {
		return nil, matrix.UserSuspended
	}
	return who, err
}

type configAnswer struct {
	UploadSize int64 `json:"m.upload.size"`
}

// config is GET /config.
func (a *API) config(context.Context, *account.Caller, *struct{}) (*configAnswer, error) {
	return &configAnswer{int64(a.Config.MaxUpload)}, nil
}

// keep gives a received file its name and records in the database what needs it. Without
// that the file is removed again, unless it is needed already.
func (a *API) keep(ctx context.Context, r *received, record func(tx *storage.Tx) error) error {
	defer r.discard()
	defer a.files.lock(r.hash)()
	if err := a.files.keep(r); err != nil {
		return err
	}
	err := a.DB.Write(ctx, record)
	if isRefusal(err) {
		_, removeErr := a.removeUnused(context.WithoutCancel(ctx), r.hash)
		return errors.Join(err, removeErr)
	}
	return err // what became of the transaction is perhaps not certain: the sweep will see
}

// isRefusal tells whether a transaction was certainly undone, by what it found.
func isRefusal(err error) bool {
	_, told := errors.AsType[*matrix.Error](err)
	return told || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrExists)
}

// removeIfUnused removes a file unless something needs it, and tells whether it did.
func (a *API) removeIfUnused(ctx context.Context, hash string) (bool, error) {
	defer a.files.lock(hash)()
	return a.removeUnused(ctx, hash)
}

// removeUnused is removeIfUnused for a caller that holds the file's lock.
func (a *API) removeUnused(ctx context.Context, hash string) (bool, error) {
	used, err := a.DB.UsedFiles(ctx, []string{hash})
	if err != nil || len(used) > 0 {
		return false, err
	}
	return true, a.files.remove(hash)
}

func nowMS() int64 { return time.Now().UnixMilli() }
