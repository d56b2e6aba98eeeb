package tests

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strconv"
	"strings"
	"sync"
	"testing"

	"beep/tests/harness"
)

const thumbnails = "/_matrix/client/v1/media/thumbnail/"

// photo is an image that is not of one colour.
func photo(w, h int) *image.RGBA {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p.SetRGBA(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	return p
}

func encodeWith(t *testing.T, encode func(*bytes.Buffer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := encode(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func asPNG(t *testing.T, p image.Image) []byte {
	return encodeWith(t, func(out *bytes.Buffer) error { return png.Encode(out, p) })
}

// asGIF is an animation of two frames.
func asGIF(t *testing.T, w, h int) []byte {
	frame := func() *image.Paletted {
		return image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black, color.White})
	}
	return encodeWith(t, func(out *bytes.Buffer) error {
		return gif.EncodeAll(out, &gif.GIF{Image: []*image.Paletted{frame(), frame()}, Delay: []int{1, 1}})
	})
}

func thumbnailOf(c *harness.Client, uri string, width, height int, more ...string) *harness.Response {
	return c.Get(thumbnails+uri, append([]string{"width", strconv.Itoa(width), "height", strconv.Itoa(height)}, more...)...)
}

func TestThumbnails(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, guest := srv.Register(t, "alice"), srv.RegisterGuest(t)
		large := asPNG(t, photo(700, 350))
		uri := uploadMedia(t, alice, "application/octet-stream", "a", large) // what it is called does not count
		for _, test := range []struct {
			width, height int
			method        string
			w, h          int
		}{
			{32, 32, "crop", 32, 32}, {33, 20, "crop", 96, 96}, {1, 1, "scale", 320, 160}, {320, 240, "", 320, 160}, {321, 240, "scale", 640, 320},
			{5000, 1, "scale", 700, 350}, {641, 1, "crop", 700, 350},
		} {
			var method []string
			if test.method != "" {
				method = []string{"method", test.method}
			}
			r := thumbnailOf(guest, uri, test.width, test.height, method...)
			config, kind, err := image.DecodeConfig(bytes.NewReader(r.OK().Body))
			if err != nil || kind != "png" || config.Width != test.w || config.Height != test.h {
				t.Errorf("%+v: got %s %dx%d, %v", test, kind, config.Width, config.Height, err)
			}
			if r.Header.Get("Content-Type") != "image/png" || r.Header.Get("Content-Disposition") != "inline; filename=thumbnail.png" || !strings.HasPrefix(r.Header.Get("Content-Security-Policy"), "sandbox;") {
				t.Errorf("%+v: %v", test, r.Header)
			}
		}
		jpg := uploadMedia(t, alice, "image/jpeg", "", encodeWith(t, func(out *bytes.Buffer) error { return jpeg.Encode(out, photo(400, 400), nil) }))
		if r := thumbnailOf(alice, jpg, 320, 240).OK(); r.Header.Get("Content-Type") != "image/jpeg" {
			t.Errorf("of a JPEG: %v", r.Header)
		}
		srv.Client(t).Get(thumbnails+uri, "width", "32", "height", "32").Fails(401, "M_MISSING_TOKEN")
		srv.Client(t).Get("/_matrix/media/v3/thumbnail/"+uri, "width", "32", "height", "32").Fails(404, "M_NOT_FOUND")
	})
}

func TestThumbnailRefusals(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "media: {max_pixels: 500000}"}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		uri := uploadMedia(t, alice, "image/png", "", asPNG(t, photo(800, 600)))
		alice.Get(thumbnails+uri, "width", "32").Fails(400, "M_MISSING_PARAM")
		alice.Get(thumbnails+uri, "width", "-1", "height", "32").Fails(400, "M_INVALID_PARAM")
		alice.Get(thumbnails+uri, "width", "0", "height", "32").Fails(400, "M_INVALID_PARAM")
		alice.Get(thumbnails+uri, "width", "x", "height", "32").Fails(400, "M_INVALID_PARAM")
		alice.Get(thumbnails+uri, "width", "32", "height", "32", "method", "stretch").Fails(400, "M_INVALID_PARAM")
		thumbnailOf(alice, srv.Name+"/unknown", 32, 32).Fails(404, "M_NOT_FOUND")
		thumbnailOf(alice, createURI(t, alice), 32, 32, "timeout_ms", "0").Fails(504, "M_NOT_YET_UPLOADED")
		large := uploadMedia(t, alice, "image/png", "", asPNG(t, photo(1000, 501)))
		thumbnailOf(alice, large, 32, 32).Fails(413, "M_TOO_LARGE")
		thumbnailOf(alice, uri, 32, 32).OK()
	})
}

// A client gets what moves only if it asks for it.
func TestAnimatedThumbnails(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		moving, still := asGIF(t, 400, 400), asPNG(t, photo(400, 400))
		movingURI, stillURI := uploadMedia(t, alice, "image/gif", "", moving), uploadMedia(t, alice, "image/png", "", still)
		for range 2 {
			if r := thumbnailOf(alice, movingURI, 96, 96, "animated", "true").OK(); !bytes.Equal(r.Body, moving) || r.Header.Get("Content-Type") != "image/gif" {
				t.Errorf("it does not move: %v", r.Header)
			}
			for _, query := range [][]string{nil, {"animated", "false"}} {
				for _, size := range []int{96, 1000} {
					r := thumbnailOf(alice, movingURI, size, size, query...).OK()
					if config, kind, err := image.DecodeConfig(bytes.NewReader(r.Body)); err != nil || kind != "png" || config.Width < min(size, 400) {
						t.Errorf("%v %d: %s %d, %v", query, size, kind, config.Width, err)
					}
				}
			}
			if r := thumbnailOf(alice, stillURI, 96, 96, "animated", "true", "method", "crop").OK(); r.Header.Get("Content-Type") != "image/png" || bytes.Equal(r.Body, still) {
				t.Errorf("of what does not move: %v", r.Header)
			}
		}
	})
}

// Of anything but images of four formats there are no thumbnails, and broken ones are told so
// at once when they are asked for again (M11, M27).
func TestAttackM11Thumbnails(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		broken := asPNG(t, photo(200, 200))
		for kind, content := range map[string][]byte{
			"image/svg+xml": []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"></svg>`), "image/tiff": append([]byte("II\x2a\x00"), make([]byte, 99)...),
			"image/png": broken[:len(broken)/2], "image/jpeg": []byte("%PDF-1.7 and so on"), "video/mp4": []byte("\x00\x00\x00\x20ftypisom\x00\x00"), "image/gif": []byte("GIF89a"),
		} {
			uri := uploadMedia(t, alice, kind, "", content)
			for _, method := range []string{"crop", "scale", "crop"} {
				thumbnailOf(alice, uri, 32, 32, "method", method).Fails(400, "M_UNKNOWN")
			}
			alice.Get(downloads + uri).OK()
		}
		moving := asGIF(t, 200, 200)
		cut := uploadMedia(t, alice, "image/gif", "", moving[:len(moving)-20])
		thumbnailOf(alice, cut, 96, 96).OK()
	})
}

// Bombs are refused before they take memory, many at a time (M12).
func TestAttackM12ThumbnailBombs(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), 60_000), 60_000)
		head = append(head, 8, 6, 0, 0, 0)
		bomb := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"+string(head)), crc32.ChecksumIEEE(head))
		uri := uploadMedia(t, alice, "image/png", "", bomb)
		before := residentSet(t, srv)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				r, err := alice.Try(t.Context(), "GET", thumbnails+uri+"?width=32&height=32", nil)
				if err != nil || r.Status != 413 || r.At("errcode").Str() != "M_TOO_LARGE" {
					t.Errorf("%v %+v", err, r)
				}
			})
		}
		group.Wait()
		if after := residentSet(t, srv); after > before+64<<20 {
			t.Errorf("the memory grew from %d to %d MiB", before>>20, after>>20)
		}
	})
}

// A thumbnail that many want at the same time is made once, and is one file.
func TestThumbnailsAreMadeOnce(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		content := asPNG(t, photo(500, 500))
		uris := []string{uploadMedia(t, alice, "image/png", "", content), uploadMedia(t, alice, "image/png", "", content)}
		var group sync.WaitGroup
		for i := range 12 {
			group.Go(func() {
				r, err := alice.Try(t.Context(), "GET", thumbnails+uris[i%2]+"?width=320&height=240", nil)
				if err != nil || r.Status != 200 {
					t.Errorf("%v %+v", err, r)
				}
			})
		}
		group.Wait()
		srv.Restart(t)
		thumbnailOf(alice, uris[0], 320, 240).OK()
		if files := mediaFiles(t, srv); len(files) != 2 {
			t.Errorf("the files %q", files)
		}
	})
}
