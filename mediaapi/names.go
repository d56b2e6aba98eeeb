package mediaapi

import (
	"mime"
	"strings"
	"unicode/utf8"
)

const (
	// maxMediaID bounds the id in an mxc:// URI, in bytes.
	maxMediaID = 255
	// maxType bounds a content type, in bytes.
	maxType = 255
	// anyType is the type of what has none.
	anyType = "application/octet-stream"
)

// validMediaID checks the grammar of ids ("Matrix Content (mxc://) URIs").
func validMediaID(id string) bool {
	if id == "" || len(id) > maxMediaID {
		return false
	}
	for i := range len(id) {
		b := id[i]
		if (b < '0' || b > '9') && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && b != '_' && b != '-' {
			return false
		}
	}
	return true
}

// cleanType is a content type that may stand in a header; what is none becomes anyType.
func cleanType(contentType string) string {
	if _, _, err := mime.ParseMediaType(contentType); err != nil || len(contentType) > maxType || !printable(contentType) {
		return anyType
	}
	return contentType
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// inlineTypes are the types that clients may show without harm ("Serving inline content").
var inlineTypes = map[string]bool{
	"text/css": true, "text/plain": true, "text/csv": true,
	"application/json": true, "application/ld+json": true,
	"image/jpeg": true, "image/gif": true, "image/png": true, "image/apng": true, "image/webp": true, "image/avif": true,
	"video/mp4": true, "video/webm": true, "video/ogg": true, "video/quicktime": true,
	"audio/mp4": true, "audio/webm": true, "audio/aac": true, "audio/mpeg": true, "audio/ogg": true, "audio/wave": true,
	"audio/wav": true, "audio/x-wav": true, "audio/x-pn-wav": true, "audio/flac": true, "audio/x-flac": true,
}

// disposition is the header Content-Disposition: inline only for types that are harmless,
// whatever the case they are written in.
func disposition(contentType, name string) string {
	how := "attachment"
	if plain, _, err := mime.ParseMediaType(contentType); err == nil && inlineTypes[plain] {
		how = "inline"
	}
	if name == "" {
		return how
	}
	return mime.FormatMediaType(how, map[string]string{"filename": name})
}

// nameIn is the file's name in a header Content-Disposition of another server; "" for none
// that can be used.
func nameIn(disposition string) string {
	_, parameters, err := mime.ParseMediaType(disposition)
	name := parameters["filename"]
	if err != nil || len(name) > maxName || !utf8.ValidString(name) || strings.Contains(name, "\x00") {
		return ""
	}
	return name
}
