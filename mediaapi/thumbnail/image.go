// Package thumbnail makes small images of large ones. Whoever made the large one is a
// stranger: four formats are read, told by their first bytes whatever they are called, and
// nothing is decoded before it is known how large it becomes.
package thumbnail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/webp"
)

var (
	// ErrUnsupported is what no thumbnail can be made of: no image of a format that is
	// read, or a broken one.
	ErrUnsupported = errors.New("thumbnail: not an image that can be read")
	// ErrTooLarge is an image of more pixels than may be decoded.
	ErrTooLarge = errors.New("thumbnail: the image has too many pixels")
)

// The content types of what is read.
const (
	typePNG  = "image/png"
	typeJPEG = "image/jpeg"
	typeGIF  = "image/gif"
	typeWebP = "image/webp"
)

// Image is an image that has not been decoded.
type Image struct {
	// Type is what it really is.
	Type          string
	Width, Height int
	// Animated tells that it has more than one frame. The first one counts for thumbnails.
	Animated bool

	// still gives what the decoder is to read: one frame, of the size above.
	still       func() io.Reader
	orientation int  // as Exif has it; 1 is upright
	photo       bool // it was compressed as a photo is
}

// Open looks at an image of at most so many pixels. [ErrUnsupported], [ErrTooLarge]; other
// errors are those of the file.
func Open(file io.ReaderAt, size int64, maxPixels int) (*Image, error) {
	var magic [12]byte
	if n, err := file.ReadAt(magic[:], 0); n < len(magic) {
		if err == io.EOF {
			err = ErrUnsupported
		}
		return nil, err
	}
	whole := func() io.Reader { return io.NewSectionReader(file, 0, size) }
	i := &Image{still: whole, orientation: 1}
	var err error
	switch {
	case bytes.HasPrefix(magic[:], []byte("\x89PNG\r\n\x1a\n")):
		i.Type, i.Animated = typePNG, pngAnimated(file)
		err = i.configure(png.DecodeConfig)
	case bytes.HasPrefix(magic[:], []byte("\xff\xd8\xff")):
		i.Type, i.photo, i.orientation = typeJPEG, true, orientationOf(bufio.NewReader(whole()))
		err = i.configure(jpeg.DecodeConfig)
	case bytes.HasPrefix(magic[:], []byte("GIF8")):
		i.Type, i.Animated = typeGIF, gifAnimated(bufio.NewReader(whole()))
		err = i.configure(gif.DecodeConfig)
	case string(magic[:4]) == "RIFF" && string(magic[8:]) == "WEBP":
		i.Type = typeWebP
		err = i.openWebP(file, size)
	default:
		return nil, ErrUnsupported
	}
	switch {
	case err != nil:
		return nil, unsupported(err)
	case i.Width <= 0 || i.Height <= 0:
		return nil, ErrUnsupported
	case int64(i.Width)*int64(i.Height) > int64(maxPixels):
		return nil, ErrTooLarge
	}
	return i, nil
}

func unsupported(err error) error {
	if errors.Is(err, ErrUnsupported) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnsupported, err)
}

func (i *Image) configure(decode func(io.Reader) (image.Config, error)) error {
	config, err := decode(bufio.NewReader(i.still()))
	i.Width, i.Height = config.Width, config.Height
	return err
}

// decode gives the first frame. It ends with ctx, as long as the decoder reads.
func (i *Image) decode(ctx context.Context) (decoded image.Image, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the decoder panicked: %v", ErrUnsupported, p)
		}
	}()
	from := bufio.NewReader(patient{ctx, i.still()})
	switch i.Type {
	case typePNG:
		decoded, err = png.Decode(from)
	case typeJPEG:
		decoded, err = jpeg.Decode(from)
	case typeGIF:
		decoded, err = gif.Decode(from)
	case typeWebP:
		decoded, err = webp.Decode(from)
	}
	if err != nil {
		return nil, unsupported(err)
	}
	if b := decoded.Bounds(); b.Dx() > i.Width || b.Dy() > i.Height || b.Empty() {
		return nil, ErrUnsupported
	}
	return decoded, nil
}

// patient is a reader that reads as long as the context lasts: an image can be made so that
// every byte of it costs as much as a whole one.
type patient struct {
	ctx  context.Context
	from io.Reader
}

// Read serves [io.Reader].
func (p patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.from.Read(b)
}
