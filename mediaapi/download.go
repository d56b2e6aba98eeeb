package mediaapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/storage"
	"beep/web"
)

const (
	// usualWait is how long a request waits for an upload that is pending, if it does not
	// say, and longestWait how long at most.
	usualWait   = 20 * time.Second
	longestWait = time.Minute
)

// downloadRequest is GET /download/{serverName}/{mediaId} and /{fileName}. That a client
// allows for redirects means nothing: there are none.
type downloadRequest struct {
	ServerName  string `path:"serverName"`
	MediaID     string `path:"mediaID"`
	FileName    string `path:"fileName,optional"`
	TimeoutMS   *int64 `query:"timeout_ms"`
	AllowRemote *bool  `query:"allow_remote"`
	Range       string `header:"Range"`
	IfRange     string `header:"If-Range"`
	IfNoneMatch string `header:"If-None-Match"`
}

// asker is who wants media, and what they may have.
type asker struct {
	key         string // for rate limits
	unlimited   bool
	proven      bool // who they are is known: they get what is frozen
	allowRemote bool
	wait        time.Duration
}

func (a *API) user(who *account.Caller, timeoutMS *int64, allowRemote *bool) *asker {
	return &asker{key: who.UserID, unlimited: who.Unlimited(), proven: true, allowRemote: allowRemote == nil || *allowRemote, wait: waitFor(timeoutMS)}
}

func (a *API) anyone(ctx context.Context, timeoutMS *int64, allowRemote *bool) *asker {
	return &asker{key: web.AddrKey(web.ClientAddr(ctx)), allowRemote: allowRemote == nil || *allowRemote, wait: waitFor(timeoutMS)}
}

func waitFor(timeoutMS *int64) time.Duration {
	if timeoutMS == nil {
		return usualWait
	}
	return time.Duration(min(max(*timeoutMS, 0), longestWait.Milliseconds())) * time.Millisecond
}

// download is GET /_matrix/client/v1/media/download.
func (a *API) download(ctx context.Context, who *account.Caller, req *downloadRequest) (*web.Raw, error) {
	return a.serve(ctx, a.user(who, req.TimeoutMS, req.AllowRemote), req)
}

// downloadOpenly is the deprecated GET /_matrix/media/v3/download.
func (a *API) downloadOpenly(ctx context.Context, _ web.Nobody, req *downloadRequest) (*web.Raw, error) {
	return a.serve(ctx, a.anyone(ctx, req.TimeoutMS, req.AllowRemote), req)
}

func (a *API) serve(ctx context.Context, by *asker, req *downloadRequest) (*web.Raw, error) {
	m, file, err := a.find(ctx, by, req.ServerName, req.MediaID)
	if err != nil {
		return nil, err
	}
	name := m.Name
	if req.FileName != "" {
		name = req.FileName
	}
	return answer(file, &m, disposition(m.ContentType, name), req.Range, req.IfRange, req.IfNoneMatch)
}

var errNoMedia = matrix.NotFound.With("There is no such file")

// find finds what a URI stands for, and opens its file.
func (a *API) find(ctx context.Context, by *asker, server, id string) (storage.Media, *os.File, error) {
	var m storage.Media
	var err error
	switch {
	case !validMediaID(id) || !matrix.ValidServerName(server):
		return m, nil, errNoMedia
	case server != a.ServerName:
		return a.findRemote(ctx, by, server, id)
	}
	if m, err = a.findOwn(ctx, by, id); err != nil {
		return m, nil, err
	}
	file, err := a.openFile(m.Hash)
	return m, file, err
}

// openFile opens a file that the database knows. If it is gone all the same, somebody has
// removed it behind the server's back, or it had to make room in this moment.
func (a *API) openFile(hash string) (*os.File, error) {
	file, err := a.files.open(hash)
	if errors.Is(err, fs.ErrNotExist) {
		a.Logger.Warn("a file of media is missing", "hash", hash)
		return nil, errNoMedia.Because(err)
	}
	return file, err
}

// findOwn finds a file of this server, and waits a while for one that is to be uploaded.
func (a *API) findOwn(ctx context.Context, by *asker, id string) (storage.Media, error) {
	arrived, leave := a.arrivals.await(id)
	defer leave()
	m, err := a.ownMedia(ctx, by, id)
	if !errors.Is(err, matrix.NotYetUploaded) {
		return m, err
	}
	timer := time.NewTimer(by.wait)
	defer timer.Stop()
	select {
	case <-arrived:
		return a.ownMedia(ctx, by, id)
	case <-timer.C:
	case <-web.ShuttingDown(ctx):
	case <-ctx.Done():
		return m, ctx.Err()
	}
	return m, err
}

func (a *API) ownMedia(ctx context.Context, by *asker, id string) (storage.Media, error) {
	m, err := a.DB.Media(ctx, "", id)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && m.Frozen && !by.proven:
		return m, errNoMedia
	case err != nil || m.Expires == 0:
		return m, err
	case m.Expires <= nowMS(), a.Config.Freeze && !by.proven:
		return m, errNoMedia
	}
	return m, matrix.NotYetUploaded
}

// contentPolicy is the specification's for content that anybody has uploaded: it can do
// nothing in the name of the place that it comes from.
const contentPolicy = "sandbox; default-src 'none'; script-src 'none'; style-src 'unsafe-inline'; object-src 'self'"

// answer gives a file, or the part of it that was asked for. Its bytes never change, so its
// hash is its tag.
func answer(file *os.File, m *storage.Media, disposition, wantedRange, ifRange, ifNoneMatch string) (*web.Raw, error) {
	tag := `"` + m.Hash + `"`
	raw := &web.Raw{ContentType: m.ContentType, Content: file, Size: m.Size, Header: http.Header{
		"Content-Disposition":          {disposition},
		"Content-Security-Policy":      {contentPolicy},
		"Cross-Origin-Resource-Policy": {"cross-origin"},
		"Cache-Control":                {"private, max-age=86400"},
		"Etag":                         {tag},
		"Accept-Ranges":                {"bytes"},
		"Referrer-Policy":              {"no-referrer"},
	}}
	if matches(ifNoneMatch, tag) {
		raw.Status, raw.ContentType, raw.Content = http.StatusNotModified, "", nil
		return raw, file.Close()
	}
	if ifRange != "" && ifRange != tag {
		return raw, nil
	}
	from, length, ok := parseRange(wantedRange, m.Size)
	switch {
	case !ok:
		return raw, nil
	case length == 0:
		raw.Status, raw.ContentType, raw.Content = http.StatusRequestedRangeNotSatisfiable, "", nil
		raw.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", m.Size))
		return raw, file.Close()
	}
	raw.Status, raw.Size = http.StatusPartialContent, length
	raw.Content = &part{io.NewSectionReader(file, from, length), file}
	raw.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, m.Size))
	return raw, nil
}

// part is a part of a file.
type part struct {
	io.Reader
	io.Closer
}

// matches tells whether If-None-Match names a tag.
func matches(header, tag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}

// parseRange reads a Range of one part. ok is false for none, or one that is not understood,
// as that of several parts: all of the file is given then. A length of 0 is a range outside.
func parseRange(header string, size int64) (from, length int64, ok bool) {
	wanted, found := strings.CutPrefix(header, "bytes=")
	first, last, hasDash := strings.Cut(wanted, "-")
	if !found || !hasDash {
		return 0, 0, false
	}
	start, startErr := strconv.ParseUint(first, 10, 63)
	end, endErr := strconv.ParseUint(last, 10, 63)
	switch {
	case first == "" && endErr == nil: // the last bytes
		length = min(int64(end), size)
		return size - length, length, true
	case startErr != nil || last != "" && endErr != nil || last != "" && end < start:
		return 0, 0, false
	case int64(start) >= size:
		return 0, 0, true
	case last == "" || int64(end) >= size:
		end = uint64(size) - 1
	}
	return int64(start), int64(end-start) + 1, true
}
