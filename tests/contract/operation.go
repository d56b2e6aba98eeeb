package contract

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Operation is one method of one path.
type Operation struct {
	Name   string // "GET /_matrix/client/v3/sync"; with the ID behind where a method and path stand in two files
	ID     string // operationId
	Method string
	Path   string // with variables: /_matrix/client/v3/rooms/{roomId}/state

	segments   []string
	parameters []parameter
	body       *requestBody // nil if the operation takes none
	responses  map[int]response
}

type parameter struct {
	in, name string
	required bool
	schema   node
}

type requestBody struct {
	required bool
	content  map[string]node // schema by media type
}

type response struct {
	content map[string]node // schema by media type
	headers map[string]bool // name → required
}

// operations reads the operations of one OpenAPI document.
func (d *documents) operations(file string) ([]*Operation, error) {
	doc, err := d.open(file)
	if err != nil {
		return nil, err
	}
	base := doc.at("servers", "0", "variables", "basePath", "default").text()
	var operations []*Operation
	paths := doc.at("paths")
	for _, path := range slices.Sorted(maps.Keys(paths.object())) {
		item := paths.at(path)
		for _, method := range slices.Sorted(maps.Keys(item.object())) {
			op, err := d.operation(item.at(method))
			if err != nil {
				return nil, err
			}
			op.Method = strings.ToUpper(method)
			op.Path = base + strings.TrimSpace(path)
			op.segments = strings.Split(op.Path, "/")
			operations = append(operations, op)
		}
	}
	return operations, nil
}

func (d *documents) operation(n node) (*Operation, error) {
	op := &Operation{ID: n.at("operationId").text(), responses: map[int]response{}}
	parameters, _ := n.at("parameters").value.([]any)
	for i := range parameters {
		p, err := d.deref(n.at("parameters", strconv.Itoa(i)))
		if err != nil {
			return nil, err
		}
		required, _ := p.at("required").value.(bool)
		op.parameters = append(op.parameters, parameter{p.at("in").text(), p.at("name").text(), required, p.at("schema")})
	}
	body, err := d.deref(n.at("requestBody"))
	if err != nil {
		return nil, err
	}
	if body.value != nil {
		required, _ := body.at("required").value.(bool)
		op.body = &requestBody{required, content(body)}
	}
	for status := range n.at("responses").object() {
		code, err := strconv.Atoi(status)
		if err != nil {
			return nil, fmt.Errorf("%s: status %q", op.ID, status)
		}
		if op.responses[code], err = d.response(n.at("responses", status)); err != nil {
			return nil, err
		}
	}
	return op, nil
}

func (d *documents) response(n node) (response, error) {
	n, err := d.deref(n)
	if err != nil {
		return response{}, err
	}
	r := response{content: content(n), headers: map[string]bool{}}
	for name := range n.at("headers").object() {
		header, err := d.deref(n.at("headers", name))
		if err != nil {
			return response{}, err
		}
		r.headers[name], _ = header.at("required").value.(bool)
	}
	return r, nil
}

func content(n node) map[string]node {
	schemas := map[string]node{}
	for mediaType := range n.at("content").object() {
		schemas[mediaType] = n.at("content", mediaType, "schema")
	}
	return schemas
}

// shape is what a request must have in common with an operation to be compared with it.
type shape struct {
	method   string
	segments int
}

// shapes has two elements for the operations that end in a state key: an empty one may be left out with its slash.
func (op *Operation) shapes() []shape {
	shapes := []shape{{op.Method, len(op.segments)}}
	if op.segments[len(op.segments)-1] == "{stateKey}" {
		shapes = append(shapes, shape{op.Method, len(op.segments) - 1})
	}
	return shapes
}

func variable(segment string) (name string, ok bool) {
	if !strings.HasPrefix(segment, "{") || !strings.HasSuffix(segment, "}") {
		return "", false
	}
	return segment[1 : len(segment)-1], true
}

func (op *Operation) variables() int {
	n := 0
	for _, segment := range op.segments {
		if _, ok := variable(segment); ok {
			n++
		}
	}
	return n
}

// match returns the values of the path's variables, given the segments of an escaped path.
func (op *Operation) match(path []string) (map[string]string, bool) {
	values := map[string]string{}
	for i, segment := range op.segments {
		name, isVariable := variable(segment)
		given := ""
		if i < len(path) {
			given = path[i]
		}
		if !isVariable {
			if segment != given {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(given)
		if err != nil || value == "" && name != "stateKey" {
			return nil, false
		}
		values[name] = value
	}
	return values, true
}

// match returns the operations of a request with the values of the path's variables: none, one, or two where two files
// describe the same method and path.
func (s *Spec) match(method, escapedPath string) ([]*Operation, map[string]string) {
	path := strings.Split(successor(escapedPath), "/")
	var found []*Operation
	var values map[string]string
	for _, op := range s.byShape[shape{method, len(path)}] {
		if found != nil && op.Path != found[0].Path {
			continue
		}
		if v, ok := op.match(path); ok {
			found, values = append(found, op), v
		}
	}
	return found, values
}

// successor maps the paths of old versions of the specification, which the documents no longer list, to the present
// ones.
func successor(path string) string {
	for _, old := range [][2]string{
		{"/_matrix/client/r0/", "/_matrix/client/v3/"},
		{"/_matrix/media/r0/", "/_matrix/media/v3/"},
	} {
		if rest, ok := strings.CutPrefix(path, old[0]); ok {
			return old[1] + rest
		}
	}
	if rest, ok := strings.CutPrefix(path, "/_matrix/key/v2/server/"); ok && !strings.Contains(rest, "/") {
		return "/_matrix/key/v2/server"
	}
	return path
}
