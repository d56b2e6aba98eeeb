package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"beep/matrix"
)

// FuzzMediaParts: whatever another server answers, no more than the limit is taken, and an
// answer that is not used is an error that a client can be told.
func FuzzMediaParts(f *testing.F) {
	const boundary = "multipart/mixed; boundary=x"
	for _, body := range []string{
		"--x\r\nContent-Type: application/json\r\n\r\n{}\r\n--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n",
		"--x\r\nContent-Type: application/json\r\n\r\n{}\r\n--x\r\nLocation: https://a.test/b\r\n\r\n\r\n--x--\r\n",
		"--x\nContent-Type: application/json\n\n--x\n\n" + strings.Repeat("y", 200) + "\n--x--", "--x--", "\r\n--x\r\n\r\n--x\r\n\r\n--x\r\n",
	} {
		f.Add(boundary, body)
	}
	f.Add("multipart/mixed; boundary=\"\"", "----\r\n")
	const limit = 100
	refuse := func(context.Context, string) error { return matrix.Forbidden }
	f.Fuzz(func(t *testing.T, contentType, body string) {
		var taken strings.Builder
		m := &mediaAnswer{client: &Client{options: Options{Gate: refuse}}, server: "a.test", limit: limit, take: func(_, _ string, content io.Reader) error {
			_, err := io.Copy(&taken, content)
			return err
		}}
		resp := &http.Response{Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
		err := m.readParts(t.Context(), resp)
		if taken.Len() > limit {
			t.Errorf("%d bytes were taken", taken.Len())
		}
		if _, told := errors.AsType[*matrix.Error](err); err != nil && !told {
			t.Errorf("a client cannot be told of %v", err)
		}
	})
}
