package thumbnail

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const maxPixels = 32_000_000

var (
	red  = color.RGBA{255, 0, 0, 255}
	blue = color.RGBA{0, 0, 255, 255}
)

// picture is blue, and red in its upper left quarter.
func picture(w, h int) *image.RGBA {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p.SetRGBA(x, y, blue)
			if x < w/2 && y < h/2 {
				p.SetRGBA(x, y, red)
			}
		}
	}
	return p
}

func encoded(t testing.TB, encode func(*bytes.Buffer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := encode(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pngOf(t testing.TB, p image.Image) []byte {
	return encoded(t, func(out *bytes.Buffer) error { return png.Encode(out, p) })
}

func jpegOf(t testing.TB, p image.Image) []byte {
	return encoded(t, func(out *bytes.Buffer) error { return jpeg.Encode(out, p, &jpeg.Options{Quality: 95}) })
}

// gifOf has so many frames.
func gifOf(t testing.TB, w, h, frames int) []byte {
	all := &gif.GIF{}
	for range frames {
		p := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{blue, red})
		for y := range h / 2 {
			for x := range w / 2 {
				p.SetColorIndex(x, y, 1)
			}
		}
		all.Image, all.Delay = append(all.Image, p), append(all.Delay, 10)
	}
	return encoded(t, func(out *bytes.Buffer) error { return gif.EncodeAll(out, all) })
}

// vp8l is a lossless WebP frame of one colour, which takes no bits for its pixels.
func vp8l(w, h int, c color.RGBA) []byte {
	var bits []byte
	n := 0
	put := func(value, width int) {
		for i := range width {
			if n%8 == 0 {
				bits = append(bits, 0)
			}
			bits[n/8] |= byte(value>>i&1) << (n % 8)
			n++
		}
	}
	put(0x2f, 8)
	put(w-1, 14)
	put(h-1, 14)
	put(0, 1+3+1+1+1) // alpha, version, transform, colour cache, groups of codes
	for _, symbol := range []byte{c.G, c.R, c.B, c.A} {
		put(1, 1) // a simple code
		put(0, 1) // of one symbol
		put(1, 1) // of 8 bits
		put(int(symbol), 8)
	}
	put(1, 1)
	put(0, 3)
	return bits
}

func webpChunk(kind string, content ...[]byte) []byte {
	body := slices.Concat(content...)
	out := append(chunkHead(kind, int64(len(body))), body...)
	if len(body)%2 == 1 {
		out = append(out, 0)
	}
	return out
}

func webpOf(chunks ...[]byte) []byte {
	return webpChunk("RIFF", append([][]byte{[]byte("WEBP")}, chunks...)...)
}

// extended is the chunk that says how large a WebP is in all.
func extended(flags byte, w, h int) []byte {
	body := make([]byte, 10)
	body[0] = flags
	put24(body[4:], w-1)
	put24(body[7:], h-1)
	return webpChunk("VP8X", body)
}

// animatedPNG is a PNG that says it has several frames.
func animatedPNG(t testing.TB, w, h int) []byte {
	plain := pngOf(t, picture(w, h))
	control := append([]byte("acTL"), 0, 0, 0, 2, 0, 0, 0, 0)
	insert := binary.BigEndian.AppendUint32(nil, 8)
	insert = append(insert, control...)
	insert = binary.BigEndian.AppendUint32(insert, crc32.ChecksumIEEE(control))
	const headerEnd = 8 + 25
	return slices.Concat(plain[:headerEnd], insert, plain[headerEnd:])
}

// withExif is a JPEG with an orientation.
func withExif(jpeg []byte, orientation byte, order string) []byte {
	tiff := []byte("MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(orientation) + "\x00\x00")
	if order == "II" {
		tiff = []byte("II\x2a\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00" + string(orientation) + "\x00\x00\x00")
	}
	segment := append([]byte("Exif\x00\x00"), tiff...)
	head := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(segment)+2))
	return slices.Concat(jpeg[:2], head, segment, jpeg[2:])
}

func open(t testing.TB, content []byte) *Image {
	t.Helper()
	i, err := Open(bytes.NewReader(content), int64(len(content)), maxPixels)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func made(t testing.TB, content []byte, size Size) (*Thumbnail, image.Image) {
	t.Helper()
	thumbnail, err := open(t, content).Make(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	if thumbnail == nil {
		return nil, nil
	}
	p, kind, err := image.Decode(bytes.NewReader(thumbnail.Content))
	if err != nil || "image/"+kind != thumbnail.Type {
		t.Fatalf("a thumbnail of type %s is %s: %v", thumbnail.Type, kind, err)
	}
	return thumbnail, p
}

func is(p image.Image, x, y int, want color.RGBA) bool {
	r, g, b, _ := p.At(x, y).RGBA()
	near := func(got uint32, want uint8) bool { return max(got>>8, uint32(want))-min(got>>8, uint32(want)) < 40 }
	return near(r, want.R) && near(g, want.G) && near(b, want.B)
}

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		w, h int
		size Size
		want string // "" for the image itself
	}{
		{800, 600, Size{320, 240, false}, "320x240"}, {1000, 500, Size{320, 240, false}, "320x160"}, {500, 1000, Size{320, 240, false}, "120x240"},
		{800, 600, Size{96, 96, true}, "96x96"}, {801, 333, Size{96, 96, true}, "96x96"}, {1000, 1, Size{320, 240, false}, "320x1"}, {1, 1000, Size{32, 32, true}, "1x32"},
		{320, 240, Size{320, 240, false}, ""}, {20, 20, Size{32, 32, true}, ""}, {321, 240, Size{320, 240, false}, "320x239"},
		{1000, 20, Size{96, 96, true}, "96x20"}, {97, 50, Size{96, 96, true}, "96x50"}, {333, 777, Size{1 << 20, 1 << 20, false}, ""},
	} {
		_, p := made(t, pngOf(t, picture(test.w, test.h)), test.size)
		got := ""
		if p != nil {
			got = fmt.Sprintf("%dx%d", p.Bounds().Dx(), p.Bounds().Dy())
		}
		if got != test.want {
			t.Errorf("%dx%d to %v: %q, not %q", test.w, test.h, test.size, got, test.want)
		}
	}
}

// Every format gives an upright picture of the right type, whether it moves or not.
func TestFormats(t *testing.T) {
	alpha, err := base64.StdEncoding.DecodeString("UklGRkoAAABXRUJQVlA4WAoAAAAQAAAAAAAAAAAAQUxQSAwAAAARBxAR/Q9ERP8DAABWUDggGAAAABQBAJ0BKgEAAQAAAP4AAA3AAP7mtQAAAA==")
	if err != nil {
		t.Fatal(err)
	}
	frame := func(w, h int, c color.RGBA) []byte {
		return webpChunk("ANMF", make([]byte, 16), webpChunk("VP8L", vp8l(w, h, c)))
	}
	movingGIF, movingWebP := gifOf(t, 64, 64, 3), webpOf(extended(2, 64, 64), webpChunk("ANIM", make([]byte, 6)), frame(64, 64, red), frame(64, 64, blue))
	for name, test := range map[string]struct {
		content  []byte
		animated bool
		kind     string // of the thumbnail; "" for the image itself
		size     int
	}{
		"PNG": {pngOf(t, picture(64, 64)), false, typePNG, 32}, "JPEG": {jpegOf(t, picture(64, 64)), false, typeJPEG, 32},
		"GIF": {gifOf(t, 64, 64, 1), false, typePNG, 32}, "moving GIF": {movingGIF, true, typePNG, 32}, "small moving GIF": {gifOf(t, 16, 16, 2), true, typePNG, 32},
		"moving PNG": {animatedPNG(t, 64, 64), true, typePNG, 32}, "lossless WebP": {webpOf(webpChunk("VP8L", vp8l(64, 64, red))), false, typePNG, 32},
		"extended WebP": {webpOf(extended(0, 64, 64), webpChunk("VP8L", vp8l(64, 64, red))), false, typePNG, 32},
		"moving WebP":   {movingWebP, true, typePNG, 32}, "small moving WebP": {webpOf(extended(2, 8, 8), frame(8, 8, red), frame(8, 8, blue)), true, typePNG, 32},
		// M27: what follows the first picture is broken.
		"GIF broken after its first frame":  {movingGIF[:len(movingGIF)-90], true, typePNG, 32},
		"WebP broken after its first frame": {movingWebP[:len(movingWebP)-20], true, typePNG, 32},
		"two JPEGs in one":                  {slices.Concat(jpegOf(t, picture(64, 64)), jpegOf(t, picture(32, 32))[:300]), false, typeJPEG, 32},
		"JPEG with a tail":                  {append(jpegOf(t, picture(64, 64)), "tail"...), false, typeJPEG, 32},
	} {
		i := open(t, test.content)
		if i.Animated != test.animated {
			t.Errorf("%s: animated is %v", name, i.Animated)
		}
		thumbnail, p := made(t, test.content, Size{test.size, test.size, false})
		switch {
		case thumbnail == nil:
			t.Errorf("%s: no thumbnail", name)
		case thumbnail.Type != test.kind || p.Bounds().Dx() != min(i.Width, test.size):
			t.Errorf("%s: %s %v", name, thumbnail.Type, p.Bounds())
		case !is(p, 2, 2, red):
			t.Errorf("%s: the corner is %v", name, p.At(2, 2))
		}
	}
	if decoded, err := open(t, alpha).decode(t.Context()); err != nil || decoded.Bounds().Dx() != 1 {
		t.Errorf("WebP with alpha: %v %v", decoded, err)
	}
	// What has holes keeps them.
	holes := image.NewRGBA(image.Rect(0, 0, 64, 64))
	if _, p := made(t, pngOf(t, holes), Size{32, 32, false}); p.(interface{ Opaque() bool }).Opaque() {
		t.Error("the holes are filled")
	}
}

func TestOrientation(t *testing.T) {
	plain := jpegOf(t, picture(64, 48))
	for orientation, corner := range map[byte][2]int{
		1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {0, 1}, 5: {0, 0}, 6: {1, 0}, 7: {1, 1}, 8: {0, 1}, 0: {0, 0}, 9: {0, 0},
	} {
		for _, order := range []string{"MM", "II"} {
			_, p := made(t, withExif(plain, orientation, order), Size{24, 24, false})
			w, h := 24, 18
			if orientation >= 5 && orientation <= 8 {
				w, h = 18, 24
			}
			if p.Bounds().Dx() != w || p.Bounds().Dy() != h {
				t.Errorf("%d %s: %v", orientation, order, p.Bounds())
			}
			x, y := 3+corner[0]*(w-6), 3+corner[1]*(h-6)
			if !is(p, x, y, red) || !is(p, w-1-x, h-1-y, blue) {
				t.Errorf("%d %s: red is not at %d, %d", orientation, order, x, y)
			}
		}
	}
}

// pngHead is the beginning of a PNG that says that it is so large.
func pngHead(w, h uint32) []byte {
	head := append([]byte("IHDR"), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)...)
	head = append(head, 8, 6, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n"), binary.BigEndian.AppendUint32(nil, 13)...)
	return binary.BigEndian.AppendUint32(append(out, head...), crc32.ChecksumIEEE(head))
}

// What would take much memory is refused before it takes any (M12, M14).
func TestAttackM12Bombs(t *testing.T) {
	largeGIF := gifOf(t, 8, 8, 1)
	binary.LittleEndian.PutUint16(largeGIF[6:], 65535)
	binary.LittleEndian.PutUint16(largeGIF[8:], 65535)
	largeJPEG := jpegOf(t, picture(8, 8))
	sof := bytes.Index(largeJPEG, []byte{0xff, 0xc0})
	copy(largeJPEG[sof+5:], "\xff\xff\xff\xff")
	bomb := webpChunk("VP8L", vp8l(16384, 16384, red))
	var before, after runtime.MemStats
	check := func() {
		t.Helper()
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("it took %d KiB", took>>10)
		}
	}
	runtime.ReadMemStats(&before)
	for name, content := range map[string][]byte{
		"PNG": pngHead(60_000, 60_000), "PNG of an odd shape": pngHead(1, 1<<31-1), "GIF": largeGIF, "JPEG": largeJPEG, "WebP": webpOf(bomb),
		"WebP that says it is small": webpOf(extended(0, 1, 1), bomb), "moving WebP that says it is small": webpOf(extended(2, 1, 1), webpChunk("ANMF", make([]byte, 16), bomb)),
	} {
		if _, err := Open(bytes.NewReader(content), int64(len(content)), maxPixels); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check()
	two, three := gifOf(t, 8, 8, 2), gifOf(t, 8, 8, 3)
	one := three[len(two)-1 : len(three)-1]
	frames := slices.Concat(two[:len(two)-1], bytes.Repeat(one, 100_000), []byte{0x3b})
	runtime.ReadMemStats(&before)
	if i, err := Open(bytes.NewReader(frames), int64(len(frames)), maxPixels); err == nil {
		if _, err := i.Make(t.Context(), Size{32, 32, false}); err != nil {
			t.Errorf("many frames: %v", err)
		}
	} else {
		t.Error(err)
	}
	check()
}

// Nothing but the four formats is read, however it is called (M11).
func TestAttackM11OtherFormats(t *testing.T) {
	whole := pngOf(t, picture(64, 64))
	for name, content := range map[string][]byte{
		"nothing": nil, "text": []byte("just some text that is long enough"), "SVG": []byte(`<svg xmlns="http://www.w3.org/2000/svg"></svg>`),
		"TIFF": append([]byte("II\x2a\x00"), make([]byte, 100)...), "PSD": append([]byte("8BPS"), make([]byte, 100)...), "PDF": []byte("%PDF-1.7 and more text"),
		"MP4": append([]byte("\x00\x00\x00\x20ftypisom"), make([]byte, 100)...), "BMP": append([]byte("BM"), make([]byte, 100)...), "AVI": []byte("RIFF\x00\x00\x00\x00AVI and more text"),
		"half of a PNG": whole[:len(whole)/2], "the beginning of a PNG": whole[:20], "a GIF without frames": []byte("GIF89a\xff\x00\xff\x00\x00\x00\x00\x3b"),
		"a JPEG without pictures": []byte("\xff\xd8\xff\xd9 and more text"), "an empty WebP": webpOf(), "a WebP of other chunks": webpOf(webpChunk("VP8 ", make([]byte, 20))),
		"an endless chunk": append([]byte("RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff"), make([]byte, 100)...), "a PNG of no size": pngHead(0, 0),
	} {
		i, err := Open(bytes.NewReader(content), int64(len(content)), maxPixels)
		if err == nil {
			_, err = i.Make(t.Context(), Size{32, 32, false})
		}
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An image that takes too long is given up.
func TestPatience(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := open(t, pngOf(t, picture(64, 64))).Make(ctx, Size{32, 32, false})
	if !errors.Is(err, ErrUnsupported) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzMake(f *testing.F) {
	for _, content := range [][]byte{
		pngOf(f, picture(40, 30)), animatedPNG(f, 40, 30), withExif(jpegOf(f, picture(40, 30)), 6, "II"), gifOf(f, 40, 30, 2), webpOf(webpChunk("VP8L", vp8l(40, 30, red))),
		webpOf(extended(2, 40, 30), webpChunk("ANMF", make([]byte, 16), webpChunk("VP8L", vp8l(40, 30, red)))), []byte(strings.Repeat("x", 20)),
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		i, err := Open(bytes.NewReader(content), int64(len(content)), 1<<16)
		if err != nil {
			return
		}
		for _, size := range []Size{{16, 16, true}, {16, 16, false}} {
			made, err := i.Make(t.Context(), size)
			if err != nil || made == nil {
				continue
			}
			config, _, err := image.DecodeConfig(bytes.NewReader(made.Content))
			if err != nil || !i.Animated && (config.Width > 16 || config.Height > 16) {
				t.Errorf("%v: %+v %v", size, config, err)
			}
		}
	})
}
