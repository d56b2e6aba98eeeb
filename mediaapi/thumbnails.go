package mediaapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"beep/account"
	"beep/config"
	"beep/matrix"
	"beep/mediaapi/thumbnail"
	"beep/storage"
	"beep/web"
)

const (
	// thumbnailTime bounds the making of a thumbnail, with the time it waits for its turn.
	thumbnailTime = 2 * time.Minute
	// decodeTime bounds the decoding of an image: one that takes longer is made to.
	decodeTime = 30 * time.Second
	// maxAnimation is the size in bytes up to which an animation is its own thumbnail, for
	// clients that ask for one that moves.
	maxAnimation = 2 << 20
	// wholeSize stands for the image in its own size.
	wholeSize = 1 << 20
	// animation is the method under which it is kept whether an image moves.
	animation = "animation"
)

// thumbnailQuery is what all requests for thumbnails have in common.
type thumbnailQuery struct {
	Width     *int   `query:"width"`
	Height    *int   `query:"height"`
	Method    string `query:"method"`
	Animated  bool   `query:"animated"`
	TimeoutMS *int64 `query:"timeout_ms"`
}

type thumbnailRequest struct {
	ServerName  string `path:"serverName"`
	MediaID     string `path:"mediaID"`
	AllowRemote *bool  `query:"allow_remote"`
	Range       string `header:"Range"`
	IfRange     string `header:"If-Range"`
	IfNoneMatch string `header:"If-None-Match"`
	thumbnailQuery
}

// userThumbnail is GET /_matrix/client/v1/media/thumbnail.
func (a *API) userThumbnail(ctx context.Context, who *account.Caller, req *thumbnailRequest) (*web.Raw, error) {
	return a.serveThumbnail(ctx, a.user(who, req.TimeoutMS, req.AllowRemote), req)
}

// openThumbnail is the deprecated GET /_matrix/media/v3/thumbnail.
func (a *API) openThumbnail(ctx context.Context, _ web.Nobody, req *thumbnailRequest) (*web.Raw, error) {
	return a.serveThumbnail(ctx, a.anyone(ctx, req.TimeoutMS, req.AllowRemote), req)
}

func (a *API) serveThumbnail(ctx context.Context, by *asker, req *thumbnailRequest) (*web.Raw, error) {
	m, file, err := a.findThumbnail(ctx, by, req.ServerName, req.MediaID, &req.thumbnailQuery)
	if err != nil {
		return nil, err
	}
	return answer(file, m, thumbnailDisposition(m), req.Range, req.IfRange, req.IfNoneMatch)
}

// thumbnailDisposition names a thumbnail by its type.
func thumbnailDisposition(m *storage.Media) string {
	return "inline; filename=thumbnail." + strings.TrimPrefix(m.ContentType, "image/")
}

// findThumbnail finds or makes a thumbnail and opens its file. It is given as if it were
// media of its own.
func (a *API) findThumbnail(ctx context.Context, by *asker, server, id string, q *thumbnailQuery) (*storage.Media, *os.File, error) {
	size, err := q.size(a.Config.Thumbnails)
	if err != nil {
		return nil, nil, err
	}
	m, source, err := a.find(ctx, by, server, id)
	if err != nil {
		return nil, nil, err
	}
	defer source.Close()
	var t storage.Thumbnail
	if q.Animated && m.Size <= maxAnimation {
		t, err = a.thumbnail(ctx, &m, source, config.ThumbnailSize{Width: wholeSize, Height: wholeSize, Method: animation})
	}
	if err == nil && t.Hash == "" {
		t, err = a.thumbnail(ctx, &m, source, size)
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := a.openFile(t.Hash)
	return &storage.Media{Hash: t.Hash, Size: t.Size, ContentType: t.ContentType}, file, err
}

// size is the smallest of the sizes that is not smaller than what is asked for, of a like
// shape if it is cropped; or the image's own size.
func (q *thumbnailQuery) size(sizes []config.ThumbnailSize) (config.ThumbnailSize, error) {
	best := config.ThumbnailSize{Width: wholeSize, Height: wholeSize, Method: "scale"}
	switch {
	case q.Width == nil || q.Height == nil:
		return best, matrix.MissingParam.With("width and height are needed")
	case *q.Width < 1 || *q.Height < 1:
		return best, matrix.InvalidParam.With("width and height are more than 0")
	case q.Method != "" && q.Method != "crop" && q.Method != "scale":
		return best, matrix.InvalidParam.With("method is crop or scale")
	}
	for _, s := range sizes {
		if s.Width < *q.Width || s.Height < *q.Height || s.Method == "crop" != (q.Method == "crop") {
			continue
		}
		if best.Width == wholeSize || q.prefers(s, best) {
			best = s
		}
	}
	return best, nil
}

func (q *thumbnailQuery) prefers(a, b config.ThumbnailSize) bool {
	if of, than := q.distortion(a), q.distortion(b); q.Method == "crop" && of != than {
		return of < than
	}
	return a.Width*a.Height < b.Width*b.Height
}

// distortion is how far the shape of a size is from the one that is asked for.
func (q *thumbnailQuery) distortion(s config.ThumbnailSize) int64 {
	d := int64(s.Width)*int64(*q.Height) - int64(s.Height)*int64(*q.Width)
	return max(d, -d) * 1000 / (int64(s.Height) * int64(*q.Height)) // of the widths, at the same height
}

var errNoThumbnail = &matrix.Error{Status: http.StatusBadRequest, Code: matrix.Unknown.Code, Message: "There can be no thumbnail of this"}

// thumbnail finds what was made before, or makes it once for all who want it.
func (a *API) thumbnail(ctx context.Context, m *storage.Media, source *os.File, size config.ThumbnailSize) (storage.Thumbnail, error) {
	t, err := a.DB.Thumbnail(ctx, m.Hash, size.Width, size.Height, size.Method)
	if err == nil && t.Width == 0 {
		return t, errNoThumbnail
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return t, err
	}
	made := a.making.DoChan(fmt.Sprint(m.Hash, size), func() (any, error) {
		ctx, done, err := a.tasks.begin(thumbnailTime)
		if err != nil {
			return nil, err
		}
		defer done()
		return a.makeThumbnail(ctx, m, size)
	})
	select {
	case result := <-made:
		t, _ := result.Val.(storage.Thumbnail)
		return t, result.Err
	case <-ctx.Done():
		return t, ctx.Err()
	}
}

// makeThumbnail makes a thumbnail and keeps it; or it keeps that there can be none, so that
// nobody tries again.
func (a *API) makeThumbnail(ctx context.Context, m *storage.Media, size config.ThumbnailSize) (storage.Thumbnail, error) {
	t := storage.Thumbnail{Source: m.Hash, Width: size.Width, Height: size.Height, Method: size.Method}
	content, err := a.draw(ctx, m, &t)
	var broken *fs.PathError
	switch {
	case errors.Is(err, thumbnail.ErrTooLarge) && m.Server != "":
		return t, errRemoteImageTooLarge
	case errors.Is(err, thumbnail.ErrTooLarge):
		return t, matrix.TooLarge.With("The image is too large for thumbnails")
	case errors.Is(err, thumbnail.ErrUnsupported) && !errors.Is(err, context.Canceled) && !errors.As(err, &broken):
		a.metrics.unsupported.Inc()
		none := &storage.Thumbnail{Source: m.Hash}
		return t, errors.Join(errNoThumbnail, a.DB.Write(ctx, func(tx *storage.Tx) error { return tx.AddThumbnail(ctx, m, none) }))
	case err != nil:
		return t, err
	}
	record := func(tx *storage.Tx) error { return tx.AddThumbnail(ctx, m, &t) }
	if content == nil {
		return t, a.DB.Write(ctx, record)
	}
	a.metrics.made.Inc()
	return t, a.keepThumbnail(ctx, m, content, record)
}

var errRemoteImageTooLarge = &matrix.Error{Status: http.StatusBadGateway, Code: matrix.TooLarge.Code, Message: "The image is too large for thumbnails"}

// keepThumbnail keeps the file of a thumbnail.
func (a *API) keepThumbnail(ctx context.Context, m *storage.Media, content []byte, record func(tx *storage.Tx) error) error {
	size := int64(len(content))
	if m.Server != "" {
		if err := a.makeRoom(ctx, size); err != nil {
			return err
		}
	}
	r, err := a.files.receive(bytes.NewReader(content))
	if err == nil {
		err = a.keep(ctx, r, record)
	}
	if err != nil && m.Server != "" {
		a.cache.add(-size)
	}
	return err
}

// draw makes the content of a thumbnail and fills in what is known of it. There is no content
// if the image itself serves, and no hash if it does not move although it should.
func (a *API) draw(ctx context.Context, m *storage.Media, t *storage.Thumbnail) ([]byte, error) {
	file, err := a.openFile(m.Hash)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	image, err := thumbnail.Open(file, m.Size, a.Config.MaxPixels)
	if err != nil {
		return nil, err
	}
	t.ContentType = image.Type
	if t.Method == animation {
		if image.Animated {
			t.Hash, t.Size = m.Hash, m.Size
		}
		return nil, nil
	}
	// Few small ones at a time, and one of the largest.
	weight := int64(max(image.Width*image.Height, a.Config.MaxPixels/atOnce))
	if err := a.decoding.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	defer a.decoding.Release(weight)
	ctx, cancel := context.WithTimeout(ctx, decodeTime)
	defer cancel()
	made, err := image.Make(ctx, thumbnail.Size{Width: t.Width, Height: t.Height, Crop: t.Method == "crop"})
	if err != nil {
		return nil, err
	}
	if made == nil {
		t.Hash, t.Size = m.Hash, m.Size
		return nil, nil
	}
	t.ContentType, t.Size, t.Hash = made.Type, int64(len(made.Content)), hashOf(made.Content)
	return made.Content, nil
}

// atOnce is how many thumbnails are made at the same time at most.
const atOnce = 4
