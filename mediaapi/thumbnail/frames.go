package thumbnail

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
)

// maxChunks is how many parts of a file are looked at until what is searched for is not there.
const maxChunks = 1000

// pngAnimated tells whether a PNG says that it is an animation, which it has to say before its
// first frame.
func pngAnimated(file io.ReaderAt) bool {
	at := int64(8)
	for range maxChunks {
		var head [8]byte
		if _, err := file.ReadAt(head[:], at); err != nil {
			return false
		}
		switch string(head[4:]) {
		case "acTL":
			return true
		case "IDAT", "IEND":
			return false
		}
		at += 12 + int64(binary.BigEndian.Uint32(head[:]))
	}
	return false
}

// gifAnimated tells whether a GIF has a second frame, without decoding the first.
func gifAnimated(from *bufio.Reader) bool {
	var head [13]byte
	if _, err := io.ReadFull(from, head[:]); err != nil || !skipPalette(from, head[10]) {
		return false
	}
	for frames := 0; ; {
		kind, err := from.ReadByte()
		if err != nil {
			return false
		}
		switch kind {
		case 0x21: // an extension
			if _, err := from.Discard(1); err != nil || !skipBlocks(from) {
				return false
			}
		case 0x2c: // a frame
			if frames++; frames == 2 {
				return true
			}
			var frame [9]byte
			if _, err := io.ReadFull(from, frame[:]); err != nil || !skipPalette(from, frame[8]) {
				return false
			}
			if _, err := from.Discard(1); err != nil || !skipBlocks(from) {
				return false
			}
		default:
			return false
		}
	}
}

func skipPalette(from *bufio.Reader, flags byte) bool {
	if flags&0x80 == 0 {
		return true
	}
	_, err := from.Discard(3 << (flags&7 + 1))
	return err == nil
}

func skipBlocks(from *bufio.Reader) bool {
	for {
		n, err := from.ReadByte()
		if err != nil || n == 0 {
			return err == nil
		}
		if _, err := from.Discard(int(n)); err != nil {
			return false
		}
	}
}

// chunk is a part of a WebP.
type chunk struct {
	kind     string
	at, size int64
}

// nextChunk reads the head of the chunk at a place before end.
func nextChunk(file io.ReaderAt, at, end int64) (chunk, bool) {
	var head [8]byte
	if at+8 > end {
		return chunk{}, false
	}
	if _, err := file.ReadAt(head[:], at); err != nil {
		return chunk{}, false
	}
	c := chunk{string(head[:4]), at + 8, int64(binary.LittleEndian.Uint32(head[4:]))}
	return c, c.at+c.size <= end
}

// next is where the chunk after this one begins.
func (c chunk) next() int64 { return c.at + c.size + c.size&1 }

// openWebP finds the first frame of a WebP. The decoder gets a file that is made anew around
// it: the size that the container tells is not that which the decoder sets memory aside for.
func (i *Image) openWebP(file io.ReaderAt, size int64) error {
	var alpha chunk
	at, end := int64(12), size
	for range maxChunks {
		c, ok := nextChunk(file, at, end)
		if !ok {
			return ErrUnsupported
		}
		at = c.next()
		switch c.kind {
		case "ANMF": // its frame is within
			i.Animated = true
			at, end = c.at+16, c.at+c.size
		case "ALPH":
			alpha = c
		case "VP8 ", "VP8L":
			return i.frameWebP(file, c, alpha)
		}
	}
	return ErrUnsupported
}

// frameWebP reads the size of a frame from its own head.
func (i *Image) frameWebP(file io.ReaderAt, frame, alpha chunk) error {
	var head [10]byte
	n, err := file.ReadAt(head[:min(int64(len(head)), frame.size)], frame.at)
	if err != nil && err != io.EOF {
		return err
	}
	switch {
	case frame.kind == "VP8L" && n >= 5 && head[0] == 0x2f:
		bits := binary.LittleEndian.Uint32(head[1:])
		i.Width, i.Height = int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1
		alpha = chunk{}
	case frame.kind == "VP8 " && n >= 10 && string(head[3:6]) == "\x9d\x01\x2a":
		i.Width, i.Height = int(binary.LittleEndian.Uint16(head[6:])&0x3fff), int(binary.LittleEndian.Uint16(head[8:])&0x3fff)
		i.photo = alpha.size == 0
	default:
		return ErrUnsupported
	}
	i.still = func() io.Reader { return i.rebuildWebP(file, frame, alpha) }
	return nil
}

// rebuildWebP is a WebP of one frame.
func (i *Image) rebuildWebP(file io.ReaderAt, frame, alpha chunk) io.Reader {
	var body []io.Reader
	size := int64(4)
	add := func(kind string, length int64, content io.Reader) {
		body = append(body, bytes.NewReader(chunkHead(kind, length)), content)
		if size += 8 + length; length&1 == 1 {
			body = append(body, bytes.NewReader([]byte{0}))
			size++
		}
	}
	if alpha.size > 0 {
		extended := make([]byte, 10)
		extended[0] = 0x10 // it has alpha
		put24(extended[4:], i.Width-1)
		put24(extended[7:], i.Height-1)
		add("VP8X", 10, bytes.NewReader(extended))
		add("ALPH", alpha.size, io.NewSectionReader(file, alpha.at, alpha.size))
	}
	add(frame.kind, frame.size, io.NewSectionReader(file, frame.at, frame.size))
	head := append(chunkHead("RIFF", size), "WEBP"...)
	return io.MultiReader(append([]io.Reader{bytes.NewReader(head)}, body...)...)
}

func chunkHead(kind string, length int64) []byte {
	return binary.LittleEndian.AppendUint32([]byte(kind), uint32(length))
}

func put24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }
