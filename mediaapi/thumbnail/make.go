package thumbnail

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"image/png"
	"math"

	"golang.org/x/image/draw"
)

// quality is that of thumbnails as JPEG.
const quality = 80

// Size is the size of a thumbnail.
type Size struct {
	Width, Height int
	// Crop fills the size and cuts off what is too much; otherwise all of the image is
	// kept within the size.
	Crop bool
}

// Thumbnail is an encoded image.
type Thumbnail struct {
	Type    string
	Content []byte
}

// Make makes a thumbnail, which is never larger than the image. It is nil if the image itself
// serves: it does not move and is not larger than the size. [ErrUnsupported]: it cannot be
// decoded, or not before ctx ends.
func (i *Image) Make(ctx context.Context, size Size) (*Thumbnail, error) {
	if lying(i.orientation) {
		size.Width, size.Height = size.Height, size.Width
	}
	if !i.Animated && i.Width <= size.Width && i.Height <= size.Height {
		return nil, nil
	}
	decoded, err := i.decode(ctx)
	if err != nil {
		return nil, err
	}
	part, width, height := fit(decoded.Bounds(), size)
	small := turn(reduce(decoded, part, width, height), i.orientation)
	var out bytes.Buffer
	if i.photo {
		err = jpeg.Encode(&out, small, &jpeg.Options{Quality: quality})
		return &Thumbnail{typeJPEG, out.Bytes()}, err
	}
	err = png.Encode(&out, small)
	return &Thumbnail{typePNG, out.Bytes()}, err
}

// fit gives the part of an image that is shown and what size it gets, which is never larger.
func fit(bounds image.Rectangle, size Size) (part image.Rectangle, width, height int) {
	w, h := float64(bounds.Dx()), float64(bounds.Dy())
	toWidth, toHeight := float64(size.Width)/w, float64(size.Height)/h
	if !size.Crop {
		factor := min(toWidth, toHeight, 1)
		return bounds, rounded(w * factor), rounded(h * factor)
	}
	factor := min(max(toWidth, toHeight), 1)
	width, height = min(size.Width, rounded(w*factor)), min(size.Height, rounded(h*factor))
	pw, ph := min(rounded(float64(width)/factor), bounds.Dx()), min(rounded(float64(height)/factor), bounds.Dy())
	corner := bounds.Min.Add(image.Pt((bounds.Dx()-pw)/2, (bounds.Dy()-ph)/2))
	return image.Rectangle{corner, corner.Add(image.Pt(pw, ph))}, width, height
}

func rounded(f float64) int { return max(int(math.Round(f)), 1) }

// reduce scales a part of an image down by halves, which takes every pixel into account and
// little memory.
func reduce(from image.Image, part image.Rectangle, width, height int) *image.RGBA {
	for {
		w, h := half(part.Dx(), width), half(part.Dy(), height)
		to := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.ApproxBiLinear.Scale(to, to.Bounds(), from, part, draw.Src, nil)
		if w == width && h == height {
			return to
		}
		from, part = to, to.Bounds()
	}
}

// half is half of n, or the last step to what is wanted.
func half(n, wanted int) int {
	if n >= 2*wanted {
		return max(n/2, wanted)
	}
	return wanted
}
