package web

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

const (
	// maxDepth is how deep JSON from outside may be nested.
	maxDepth = 100
	// bodyTime is how long a client may take to send a body that is read at once, and
	// how long a streamed one may stand still.
	bodyTime = 30 * time.Second
	// firstRead is what is set aside for a body before any of it has come, however
	// large the client says it is.
	firstRead = 16 << 10
	// keptBuffer is the largest buffer that is kept for reuse.
	keptBuffer = 1 << 20
)

type bodyKind int

const (
	noBody bodyKind = iota
	valueBody
	objectBody // json.RawMessage
	formBody   // url.Values
	streamBody // io.Reader
)

func bodyKindOf(t reflect.Type) bodyKind {
	switch t {
	case reflect.TypeFor[stdjson.RawMessage](), reflect.TypeFor[jsontext.Value]():
		return objectBody
	case reflect.TypeFor[url.Values]():
		return formBody
	case reflect.TypeFor[io.Reader]():
		return streamBody
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		return valueBody
	default:
		// A pointer or an interface would let the body null through as a nil.
		panic(fmt.Sprintf("web: a body cannot be a %s", t))
	}
}

// checkBodyHeaders refuses a body for what its headers tell, before any of it is read.
// Clients may leave Content-Type out or set it to anything; multipart is refused
// because nothing here has a use for it and its parsers are costly.
func (x *exchange) checkBodyHeaders() error {
	r := x.leaf.route
	if r.plan.body != streamBody && isMultipart(x.r.Header["Content-Type"]) {
		return matrix.UnsupportedMediaType
	}
	if r.plan.body == formBody && !isForm(x.r.Header["Content-Type"]) {
		return matrix.UnsupportedMediaType.With("Send the body as application/x-www-form-urlencoded")
	}
	for _, encoding := range x.r.Header["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return matrix.UnsupportedMediaType.With("Send the body without a content encoding")
		}
	}
	if x.r.ContentLength > r.options.maxBody {
		return matrix.TooLarge
	}
	return nil
}

func isMultipart(types []string) bool {
	for _, t := range types {
		if t != "application/json" && strings.Contains(strings.ToLower(t), "multipart/form-data") {
			return true
		}
	}
	return false
}

func isForm(types []string) bool {
	if len(types) != 1 {
		return false
	}
	media, _, _ := strings.Cut(types[0], ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded")
}

// leaveBody makes the answer come at once, and the connection end with it: net/http
// would read on for a quarter of a megabyte first.
func (x *exchange) leaveBody() {
	if x.r.ContentLength != 0 && x.r.ProtoMajor == 1 {
		x.w.Header().Set("Connection", "close")
	}
}

// awaitBody starts the time that the client has for its body, also for one that no
// handler reads: net/http reads it to reuse the connection.
func (x *exchange) awaitBody() {
	if x.r.ContentLength != 0 {
		// A writer without deadlines is no network connection, where nothing is slow.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(bodyTime))
	}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keptBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

// fillBody reads and decodes the body into v, which has the type that p.body is about.
func (p *plan) fillBody(x *exchange, v reflect.Value) error {
	if p.body == streamBody {
		v.Set(reflect.ValueOf(x.stream()))
		return nil
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buffer)
	if err := x.readBody(buffer); err != nil {
		return err
	}
	if p.body == formBody {
		form, err := url.ParseQuery(buffer.String())
		v.Set(reflect.ValueOf(form))
		return malformedForm(err)
	}
	text := bytes.TrimSpace(buffer.Bytes())
	optional := x.leaf.route.options.optionalBody
	if len(text) == 0 && !optional {
		return matrix.NotJSON.With("The request has no body")
	}
	if optional && (len(text) == 0 || string(text) == "null") { // some clients say "no body" so
		text = []byte("{}")
	}
	if tooDeep(text) {
		return matrix.BadJSON.With("The request's JSON is nested too deeply")
	}
	if p.body == objectBody {
		return fillObject(text, v)
	}
	return fillValue(text, v)
}

func malformedForm(err error) error {
	if err != nil {
		return matrix.InvalidParam.With("The form is malformed").Because(err)
	}
	return nil
}

// readBody reads all of the body, no more than the route allows.
func (x *exchange) readBody(buffer *bytes.Buffer) error {
	length := x.r.ContentLength
	if length == 0 {
		return nil
	}
	body := x.r.Body
	if length < 0 {
		body = http.MaxBytesReader(x.w, body, x.leaf.route.options.maxBody)
	}
	buffer.Grow(int(min(max(length, 0), firstRead)) + bytes.MinRead)
	if _, err := buffer.ReadFrom(body); err != nil {
		x.leaveBody() // and under the deadline, or net/http would wait for the rest for ever
		return unreadBody(err)
	}
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
	return nil
}

func unreadBody(err error) error {
	if err == nil {
		return nil
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return matrix.TooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return matrix.NotJSON.With("The request's body took too long").Because(err)
	default:
		return matrix.NotJSON.With("The request's body is incomplete").Because(err)
	}
}

// stream is the body as it comes, cut off at the route's limit.
func (x *exchange) stream() io.Reader {
	return &bodyStream{
		body:    http.MaxBytesReader(x.w, x.r.Body, x.leaf.route.options.maxBody),
		control: http.NewResponseController(x.w),
	}
}

type bodyStream struct {
	body    io.Reader
	control *http.ResponseController
}

// Read gives a client bodyTime for each piece. An [http.MaxBytesError] that the
// handler passes on becomes 413 M_TOO_LARGE.
func (s *bodyStream) Read(b []byte) (int, error) {
	_ = s.control.SetReadDeadline(time.Now().Add(bodyTime))
	n, err := s.body.Read(b)
	_ = s.control.SetReadDeadline(time.Time{})
	return n, err
}

// tooDeep tells whether text opens more than maxDepth objects and arrays within one
// another. It need not be valid: up to its first fault, a parser sees what is seen here.
func tooDeep(text []byte) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			if depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

func fillObject(text []byte, v reflect.Value) error {
	if !jsontext.Value(text).IsValid() {
		_, err := jsontext.NewDecoder(bytes.NewReader(text)).ReadValue()
		return refuseJSON(err)
	}
	if text[0] != '{' {
		return matrix.BadJSON.With("The request's body must be an object")
	}
	v.SetBytes(bytes.Clone(text))
	return nil
}

func fillValue(text []byte, v reflect.Value) error {
	if err := json.Unmarshal(text, v.Addr().Interface()); err != nil {
		return refuseJSON(err)
	}
	if string(text) == "null" {
		return matrix.BadJSON.With("The request's body must not be null")
	}
	return nil
}

// refuseJSON tells the client what is wrong with its body, and where.
func refuseJSON(err error) error {
	var told *matrix.Error
	var meaning *json.SemanticError
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &told):
		return err
	case errors.As(err, &meaning):
		return matrix.BadJSON.Withf("%s %s", member(meaning.JSONPointer), expectation(meaning)).Because(err)
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return matrix.BadJSON.Withf("%s occurs twice", member(syntax.JSONPointer)).Because(err)
	default:
		return matrix.NotJSON.Because(err)
	}
}

// member names a place in the body for people.
func member(p jsontext.Pointer) string {
	const longest = 100
	name := string(p)
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "…"
	}
	if name == "" {
		return "The request's body"
	}
	return "The member " + name
}

func expectation(e *json.SemanticError) string {
	if e.GoType == nil {
		return "is not valid"
	}
	t := e.GoType
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "must be a string"
	case reflect.Bool:
		return "must be a boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "must be an integer in range"
	case reflect.Float32, reflect.Float64:
		return "must be a number"
	case reflect.Slice, reflect.Array:
		return "must be an array"
	case reflect.Struct, reflect.Map:
		return "must be an object"
	default:
		return "is not valid"
	}
}
