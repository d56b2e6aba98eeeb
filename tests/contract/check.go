package contract

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Exchange is a request with its answer. Bodies are as sent, without content encoding.
type Exchange struct {
	Method         string
	URL            *url.URL
	RequestHeader  http.Header
	RequestBody    []byte
	Status         int
	ResponseHeader http.Header
	ResponseBody   []byte

	LaxEvents   bool     // do not check the contents of events, EDUs and PDUs
	LaxRequests bool     // do not check the request
	Allow       []string // beginnings of further paths that may be served
}

// Check returns what is wrong with an exchange, and counts it in the coverage. The request is looked at only if the
// answer is below 300: tests send wrong requests on purpose, and a server has to refuse them.
// Where two files describe the operation, the one with fewer faults counts.
func (s *Spec) Check(x *Exchange) []Fault {
	method := x.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	ops, variables := s.match(method, x.URL.EscapedPath())
	if len(ops) == 0 {
		return s.checkUnlisted(x)
	}
	var best []Fault
	var used []string
	var op *Operation
	for _, candidate := range ops {
		left, excuses := forgive(candidate, s.checkOperation(candidate, variables, x))
		if op == nil || len(left) < len(best) {
			op, best, used = candidate, left, excuses
		}
	}
	s.coverage.count(op.Name, x.Status, used)
	return ordered(best)
}

// ordered sorts faults, of which the schema compiler has no order, and leaves out repeated ones: the same place is
// often described by several schemas.
func ordered(faults []Fault) []Fault {
	order := func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.Part, b.Part), strings.Compare(a.At, b.At), strings.Compare(a.Message, b.Message))
	}
	slices.SortStableFunc(faults, order)
	return slices.CompactFunc(faults, func(a, b Fault) bool { return order(a, b) == 0 })
}

func (s *Spec) checkOperation(op *Operation, variables map[string]string, x *Exchange) []Fault {
	faults := s.checkResponse(op, variables, x)
	if x.Status < 300 && !x.LaxRequests {
		faults = append(faults, s.checkParameters(op, variables, x)...)
		faults = append(faults, s.checkRequestBody(op, variables, x)...)
	}
	return faults
}

func (s *Spec) checkResponse(op *Operation, variables map[string]string, x *Exchange) []Fault {
	declared, listed := op.responses[x.Status]
	part := fmt.Sprintf("response %d", x.Status)
	if !listed && x.Status < 400 {
		return []Fault{{Part: part, Rule: "status", Message: fmt.Sprintf("the operation answers only %v", slices.Sorted(maps.Keys(op.responses)))}}
	}
	faults := missingHeaders(declared, part, x)
	if x.Method == http.MethodHead {
		return faults
	}
	if x.Status == http.StatusUnauthorized { // the operations list one of its two meanings
		return append(faults, s.checkError(part, x)...)
	}
	if len(declared.content) == 0 {
		// Nothing is said about the body of a redirect, nor of a static file that is not there.
		if x.Status < 400 || listed && strings.HasPrefix(op.Path, "/.well-known/") {
			return faults
		}
		return append(faults, s.checkError(part, x)...)
	}
	mediaType, fault := contentType(declared.content, part, x)
	if fault != nil {
		return append(faults, *fault)
	}
	schema, isJSON := declared.content[mediaType]
	if !isJSON || mediaType != "application/json" {
		return faults // media
	}
	return append(faults, s.checkJSON(op, schema, variables, part, x)...)
}

// checkJSON checks the body of a listed response.
func (s *Spec) checkJSON(op *Operation, schema node, variables map[string]string, part string, x *Exchange) []Fault {
	body, err := parse(x.ResponseBody)
	if err != nil {
		return []Fault{{Part: part, Rule: "json", Message: err.Error()}}
	}
	if strings.HasSuffix(op.Path, "/state/{eventType}/{stateKey}") {
		schema = stateSchema(schema, x)
	}
	faults := s.docs.validate(schema, body, part, "")
	faults = append(faults, s.docs.undeclared(schema, body, part, "")...)
	s.learnVersion(variables, body)
	if !x.LaxEvents && x.Status < 300 {
		faults = append(faults, s.checkContents(body, part)...)
		faults = append(faults, s.checkBareContent(op, variables, body, part, x)...)
		faults = append(faults, s.checkPDUs(op, variables, body, part)...)
	}
	return faults
}

// stateSchema chooses between the two alternatives for one state event, its content or the whole event. An event is an
// object as a content is, so that the schema cannot tell them apart; the query does.
func stateSchema(schema node, x *Exchange) node {
	alternative := "0"
	if x.URL.Query().Get("format") == "event" {
		alternative = "1"
	}
	if chosen := schema.at("oneOf", alternative); chosen.value != nil {
		return chosen
	}
	return schema
}

// checkError checks the standard error response, or the stages of user-interactive authentication, which are told with
// the status of a missing access token (client-server API: standard error response; user-interactive authentication).
func (s *Spec) checkError(part string, x *Exchange) []Fault {
	switch {
	case x.Status == http.StatusUnauthorized && bytes.Contains(x.ResponseBody, []byte(`"flows"`)):
		return s.checkStandard("auth_response.yaml", part, x)
	case x.Status == http.StatusTooManyRequests:
		return s.checkStandard("errors/rate_limited.yaml", part, x)
	}
	return s.checkStandard("errors/error.yaml", part, x)
}

// checkStandard checks an answer that any operation may give, though most do not list it. The schema is named below the
// definitions of the client-server API, which the other APIs use too.
func (s *Spec) checkStandard(file, part string, x *Exchange) []Fault {
	schema := node{file: filepath.Join(s.docs.root, "api", "client-server", "definitions", filepath.FromSlash(file))}
	if _, fault := contentType(map[string]node{"application/json": schema}, part, x); fault != nil {
		return []Fault{*fault}
	}
	body, err := parse(x.ResponseBody)
	if err != nil {
		return []Fault{{Part: part, Rule: "json", Message: err.Error()}}
	}
	return append(s.docs.validate(schema, body, part, ""), s.docs.undeclared(schema, body, part, "")...)
}

// contentType returns the media type of the answer, which has to be one that the operation lists.
// application/octet-stream in the list stands for whatever was uploaded.
func contentType(listed map[string]node, part string, x *Exchange) (string, *Fault) {
	given := x.ResponseHeader.Get("Content-Type")
	mediaType, parameters, err := mime.ParseMediaType(given)
	_, ok := listed[mediaType]
	_, anything := listed["application/octet-stream"]
	if err != nil || !ok && !anything {
		want := strings.Join(slices.Sorted(maps.Keys(listed)), ", ")
		return "", &Fault{Part: part, Rule: "content-type", Message: fmt.Sprintf("got %q, want %s", given, want)}
	}
	if charset := parameters["charset"]; mediaType == "application/json" && charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", &Fault{Part: part, Rule: "content-type", Message: fmt.Sprintf("got %q, JSON is UTF-8", given)}
	}
	return mediaType, nil
}

func missingHeaders(declared response, part string, x *Exchange) (faults []Fault) {
	for _, name := range slices.Sorted(maps.Keys(declared.headers)) {
		if declared.headers[name] && x.ResponseHeader.Get(name) == "" {
			faults = append(faults, Fault{Part: part + " header", At: name, Rule: "required", Message: "is missing"})
		}
	}
	return faults
}

func (s *Spec) checkRequestBody(op *Operation, variables map[string]string, x *Exchange) []Fault {
	const part = "request"
	empty := len(bytes.TrimSpace(x.RequestBody)) == 0
	if op.body == nil {
		if !empty && string(bytes.TrimSpace(x.RequestBody)) != "{}" {
			return []Fault{{Part: part, Rule: "body", Message: "the operation takes no body"}}
		}
		return nil
	}
	if empty {
		if op.body.required {
			return []Fault{{Part: part, Rule: "body", Message: "the body is missing"}}
		}
		return nil
	}
	schema, isJSON := op.body.content["application/json"]
	if !isJSON {
		return nil
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.RequestBody))
	if err != nil {
		return []Fault{{Part: part, Rule: "json", Message: err.Error()}}
	}
	faults := append(s.docs.validate(schema, body, part, ""), s.docs.undeclared(schema, body, part, "")...)
	s.learnVersion(variables, body)
	if !x.LaxEvents && !strings.HasPrefix(op.Path, "/_matrix/client/") {
		// Written by a server. What clients send is theirs, and comes back in an answer.
		faults = append(faults, s.checkContents(body, part)...)
		faults = append(faults, s.checkPDUs(op, variables, body, part)...)
	}
	return faults
}

// parse reads a JSON body the strict way, so that keys given twice and text that is not UTF-8 are faults too.
// Numbers stay json.Number: float64 would lose digits of an int64.
func parse(body []byte) (any, error) {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if err := d.SkipValue(); err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(body))
}

// unlisted are the beginnings of the paths that the documents do not list and this server may serve.
var unlisted = []string{
	"/_matrix/client/unstable/",
	"/_matrix/federation/unstable/",
	"/_matrix/client/v3/auth/", // fallback pages of user-interactive authentication: in the prose only
	"/_matrix/static/",
	"/_synapse/",
	"/_beep/",
	"/health",
}

// checkUnlisted checks an exchange whose path or method the documents do not list: it is refused as such, unless the
// path is known to be served nevertheless.
func (s *Spec) checkUnlisted(x *Exchange) []Fault {
	if x.Method == http.MethodOptions {
		return nil
	}
	part := fmt.Sprintf("response %d", x.Status)
	path := x.URL.EscapedPath()
	if x.allows(path) {
		if path == slidingSync && x.Method == http.MethodPost && x.Status < 400 {
			return ordered(s.checkSlidingSync(part, x))
		}
		if x.Status < 400 || !strings.Contains(path, "/unstable/") {
			return nil
		}
		faults, used := forgive(nil, s.checkError(part, x))
		s.coverage.count("", 0, used)
		return ordered(faults)
	}
	refused := x.Status == http.StatusNotFound || x.Status == http.StatusMethodNotAllowed
	if refused && (x.Method == http.MethodHead || bytes.Contains(x.ResponseBody, []byte(`"M_UNRECOGNIZED"`))) {
		return nil
	}
	return []Fault{{Part: "request path", Rule: "path", Message: "is not in the specification, and was not answered with 404 or 405 M_UNRECOGNIZED"}}
}

// slidingSync is the path of simplified sliding sync, for whose answer there is a schema of our own.
const slidingSync = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

func (s *Spec) checkSlidingSync(part string, x *Exchange) []Fault {
	faults := s.checkStandard(slidingSyncFile, part, x)
	if body, err := parse(x.ResponseBody); err == nil && !x.LaxEvents {
		faults = append(faults, s.checkContents(body, part)...)
	}
	faults, used := forgive(nil, faults)
	s.coverage.count("", 0, used)
	return faults
}

func (x *Exchange) allows(path string) bool {
	begins := func(prefix string) bool { return strings.HasPrefix(path, prefix) }
	return slices.ContainsFunc(unlisted, begins) || slices.ContainsFunc(x.Allow, begins)
}
