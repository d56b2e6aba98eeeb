package mediaapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"beep/storage"
	"beep/web"
)

// FederationRoutes registers the routes for other servers, which origin authenticates.
func FederationRoutes[C any](a *API, rt *web.Router, origin func(*http.Request) (C, error)) {
	const media = "/_matrix/federation/v1/media"
	web.GET(rt, media+"/download/{mediaID}", origin, func(ctx context.Context, _ C, req *serverDownloadRequest) (*web.Raw, error) {
		return a.serverDownload(ctx, req)
	}, web.Limit("federation"), web.LongPoll())
	web.GET(rt, media+"/thumbnail/{mediaID}", origin, func(ctx context.Context, _ C, req *serverThumbnailRequest) (*web.Raw, error) {
		return a.serverThumbnail(ctx, req)
	}, web.Limit("federation"), web.LongPoll())
}

type serverDownloadRequest struct {
	MediaID   string `path:"mediaID"`
	TimeoutMS *int64 `query:"timeout_ms"`
}

// serverDownload is GET /_matrix/federation/v1/media/download/{mediaId}: a file of this
// server, never one of another.
func (a *API) serverDownload(ctx context.Context, req *serverDownloadRequest) (*web.Raw, error) {
	m, file, err := a.find(ctx, &asker{proven: true, wait: waitFor(req.TimeoutMS)}, a.ServerName, req.MediaID)
	if err != nil {
		return nil, err
	}
	return inParts(file, &m, disposition(m.ContentType, m.Name)), nil
}

type serverThumbnailRequest struct {
	MediaID string `path:"mediaID"`
	thumbnailQuery
}

// serverThumbnail is GET /_matrix/federation/v1/media/thumbnail/{mediaId}.
func (a *API) serverThumbnail(ctx context.Context, req *serverThumbnailRequest) (*web.Raw, error) {
	m, file, err := a.findThumbnail(ctx, &asker{proven: true, wait: waitFor(req.TimeoutMS)}, a.ServerName, req.MediaID, &req.thumbnailQuery)
	if err != nil {
		return nil, err
	}
	return inParts(file, m, thumbnailDisposition(m)), nil
}

// inParts is a file as other servers get it: the first part is for what is known of it, which
// is nothing so far.
func inParts(file *os.File, m *storage.Media, disposition string) *web.Raw {
	boundary := rand.Text()
	head := fmt.Sprintf("--%s\r\nContent-Type: application/json\r\n\r\n{}\r\n--%[1]s\r\nContent-Type: %s\r\nContent-Disposition: %s\r\n\r\n",
		boundary, m.ContentType, disposition)
	tail := "\r\n--" + boundary + "--\r\n"
	return &web.Raw{
		ContentType: "multipart/mixed; boundary=" + boundary,
		Content:     &part{io.MultiReader(strings.NewReader(head), file, strings.NewReader(tail)), file},
		Size:        int64(len(head)) + m.Size + int64(len(tail)),
		Header:      http.Header{"Cache-Control": {"no-store"}},
	}
}
