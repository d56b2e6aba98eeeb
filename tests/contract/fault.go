package contract

import (
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Fault is one thing in an exchange that the specification does not allow.
type Fault struct {
	Part    string // "request path", "request query", "request header", "request", "response 200", "response 200 header"
	At      string // JSON pointer or name of what is wrong, "" for the whole part; a missing key is named too
	Rule    string // keyword of the schema ("type", "required", …), or "undeclared", "status", "content-type", "path", "query", "repeated", "json", "body"
	Message string
	Schema  string // file and pointer of the schema, relative to the specification's folder; "" if no schema is involved
}

// String is one line: part, place, what is wrong and the schema that says so.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Part)
	if f.At != "" {
		b.WriteString(" at " + f.At)
	}
	b.WriteString(": " + f.Message)
	if f.Schema != "" {
		b.WriteString(" [" + f.Schema + "]")
	}
	return b.String()
}

// validate checks a value and lists what is wrong with it, one fault each. at is the value's place in its part.
func (d *documents) validate(n node, value any, part, at string) []Fault {
	schema, err := d.schema(n)
	if err != nil {
		return []Fault{{Part: part, At: at, Rule: "schema", Message: "the schema does not compile: " + err.Error(), Schema: d.short(n.location())}}
	}
	var invalid *jsonschema.ValidationError
	if err := schema.Validate(value); !errors.As(err, &invalid) {
		return nil
	}
	l := lister{docs: d, part: part, at: at, printer: message.NewPrinter(language.English)}
	l.list(invalid)
	return l.faults
}

// lister flattens the tree of a validation error into lines.
type lister struct {
	docs     *documents
	part, at string
	printer  *message.Printer
	faults   []Fault
}

func (l *lister) list(e *jsonschema.ValidationError) {
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, key := range k.Missing {
			l.add(e, "required", "is missing", key)
		}
	case *kind.AnyOf:
		l.add(e, "anyOf", l.alternatives(e))
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			l.add(e, "oneOf", fmt.Sprintf("matches alternatives %v, may match one only", k.Subschemas))
			return
		}
		l.add(e, "oneOf", l.alternatives(e))
	default:
		if len(e.Causes) == 0 {
			l.add(e, strings.Join(k.KeywordPath(), "/"), k.LocalizedString(l.printer))
		}
		for _, cause := range e.Causes {
			l.list(cause)
		}
	}
}

func (l *lister) add(e *jsonschema.ValidationError, rule, text string, missing ...string) {
	at := l.at
	for _, key := range append(e.InstanceLocation, missing...) {
		at += "/" + escapeKey(key)
	}
	l.faults = append(l.faults, Fault{l.part, at, rule, text, brief(l.docs.short(e.SchemaURL))})
}

// alternatives says for each alternative of anyOf or oneOf why it does not match.
func (l *lister) alternatives(e *jsonschema.ValidationError) string {
	reasons := make([]string, len(e.Causes))
	for i, cause := range e.Causes {
		sub := lister{docs: l.docs, printer: l.printer}
		sub.list(cause)
		for j, f := range sub.faults {
			if j > 0 {
				reasons[i] += ", "
			}
			reasons[i] += strings.TrimSpace(f.At + " " + f.Message)
		}
	}
	return "matches no alternative: " + strings.Join(reasons, "; or ")
}

// brief leaves out of a schema's pointer the way to the schema itself, which the operation and the part tell.
func brief(schema string) string {
	file, pointer, _ := strings.Cut(schema, "#")
	if _, below, ok := strings.Cut(pointer, "/schema/"); ok {
		pointer = "/" + below
	}
	return file + " " + pointer
}
