package web

import (
	"encoding"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"beep/matrix"
)

// plan says how to fill a request struct. It is made once, when the route is
// registered, so that a struct that cannot be filled stops the program's start.
type plan struct {
	path    map[string]field
	query   []field
	headers []field
	body    bodyKind
	bodyAt  []int
}

// field is one value of a request struct.
type field struct {
	name  string
	index []int
	list  bool // a repeated query key appends
	set   setter
}

// setter parses text into a field.
type setter func(v reflect.Value, text string) error

func newPlan(t reflect.Type, method string, patterns []string) *plan {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("web: request type %s is not a struct", t))
	}
	p := &plan{path: make(map[string]field)}
	optional := make(map[string]bool)
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		p.addField(t, f, method, optional)
	}
	p.checkPaths(t, patterns, optional)
	return p
}

func (p *plan) addField(t reflect.Type, f reflect.StructField, method string, optional map[string]bool) {
	if !f.IsExported() {
		panic(fmt.Sprintf("web: %s.%s is not exported", t, f.Name))
	}
	if f.Name == "Body" {
		if method == http.MethodGet {
			panic(fmt.Sprintf("web: %s has a Body, but GET has none", t))
		}
		p.body, p.bodyAt = bodyKindOf(f.Type), f.Index
		return
	}
	target := field{index: f.Index, list: isList(f.Type)}
	target.set = setterFor(f.Type)
	name, inPath := f.Tag.Lookup("path")
	query, inQuery := f.Tag.Lookup("query")
	header, inHeader := f.Tag.Lookup("header")
	switch {
	case target.set == nil || (target.list && !inQuery):
		panic(fmt.Sprintf("web: %s.%s has a type that no text can fill", t, f.Name))
	case inPath:
		target.name, optional[name] = strings.CutSuffix(name, ",optional")
		optional[target.name] = optional[name]
		p.path[target.name] = target
	case inQuery:
		target.name = query
		p.query = append(p.query, target)
	case inHeader:
		target.name = http.CanonicalHeaderKey(header)
		p.headers = append(p.headers, target)
	default:
		panic(fmt.Sprintf("web: %s.%s says not where it comes from", t, f.Name))
	}
}

// checkPaths sees to it that each wildcard has a field and each field a wildcard.
func (p *plan) checkPaths(t reflect.Type, patterns []string, optional map[string]bool) {
	var all []string
	for _, pattern := range patterns {
		all = append(all, wildcards(pattern)...)
	}
	for _, name := range all {
		if _, ok := p.path[name]; !ok {
			panic(fmt.Sprintf("web: %s has no field for {%s} of %s", t, name, patterns[0]))
		}
	}
	for name := range p.path {
		if !optional[name] && !slices.Contains(all, name) {
			panic(fmt.Sprintf("web: %s has a field for {%s}, which %s has not", t, name, patterns[0]))
		}
	}
	if len(p.query) > 64 {
		panic(fmt.Sprintf("web: %s has more than 64 query fields", t))
	}
}

// fill decodes the request of x into v.
func (p *plan) fill(x *exchange, v reflect.Value) error {
	for i, name := range x.leaf.names {
		if err := p.path[name].fill(v, x.match.values[i]); err != nil {
			return err
		}
	}
	if len(p.query) > 0 && x.r.URL.RawQuery != "" {
		if err := p.fillQuery(x.r.URL.RawQuery, v); err != nil {
			return err
		}
	}
	for _, f := range p.headers {
		if values := x.r.Header[f.name]; len(values) > 0 {
			if err := f.fill(v, values[0]); err != nil {
				return err
			}
		}
	}
	if p.body == noBody {
		return nil
	}
	return p.fillBody(x, v.FieldByIndex(p.bodyAt))
}

// fillQuery takes the first value of each key, and all values for a list.
func (p *plan) fillQuery(raw string, v reflect.Value) error {
	var seen uint64
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err != nil {
			continue
		}
		for i, f := range p.query {
			if f.name != key || seen&(1<<i) != 0 {
				continue
			}
			if !f.list {
				seen |= 1 << i
			}
			value, err := url.QueryUnescape(value)
			if err != nil {
				return f.refuse(err)
			}
			if err := f.fill(v, value); err != nil {
				return err
			}
		}
	}
	return nil
}

var errText = errors.New("not valid UTF-8, or with a NUL")

func (f field) fill(v reflect.Value, text string) error {
	if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return f.refuse(errText)
	}
	if err := f.set(v.FieldByIndex(f.index), text); err != nil {
		return f.refuse(err)
	}
	return nil
}

// refuse names the parameter. An error that is already meant for the client stays.
func (f field) refuse(err error) error {
	var told *matrix.Error
	if errors.As(err, &told) {
		return err
	}
	return matrix.InvalidParam.Withf("The parameter %s is not valid", f.name).Because(err)
}

func isList(t reflect.Type) bool { return t.Kind() == reflect.Slice && !unmarshalsText(t) }

func unmarshalsText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// setterFor is how text becomes a t; nil if it cannot.
func setterFor(t reflect.Type) setter {
	if unmarshalsText(t) {
		return func(v reflect.Value, text string) error {
			return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
		}
	}
	switch t.Kind() {
	case reflect.String:
		return func(v reflect.Value, text string) error { v.SetString(text); return nil }
	case reflect.Int, reflect.Int32, reflect.Int64:
		return setInt
	case reflect.Bool:
		return setBool
	case reflect.Pointer:
		return setPointer(t.Elem())
	case reflect.Slice:
		return setElement(t.Elem())
	default:
		return nil
	}
}

func setInt(v reflect.Value, text string) error {
	n, err := strconv.ParseInt(text, 10, v.Type().Bits())
	v.SetInt(n)
	return err
}

func setBool(v reflect.Value, text string) error {
	switch text {
	case "true":
		v.SetBool(true)
	case "false":
		v.SetBool(false)
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

func setPointer(elem reflect.Type) setter {
	set := setterFor(elem)
	if set == nil || isList(elem) || elem.Kind() == reflect.Pointer {
		return nil
	}
	return func(v reflect.Value, text string) error {
		v.Set(reflect.New(elem))
		return set(v.Elem(), text)
	}
}

func setElement(elem reflect.Type) setter {
	set := setterFor(elem)
	if set == nil || isList(elem) {
		return nil
	}
	return func(v reflect.Value, text string) error {
		one := reflect.New(elem).Elem()
		if err := set(one, text); err != nil {
			return err
		}
		v.Set(reflect.Append(v, one))
		return nil
	}
}

// BearerToken is the access token of a request: from the Authorization header, or from
// the deprecated access_token query parameter (client-server API, "Using access
// tokens"). ok is false if there is none.
func BearerToken(r *http.Request) (token string, ok bool) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		token = strings.TrimSpace(token)
		return token, strings.EqualFold(scheme, "Bearer") && token != ""
	}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if value, found := strings.CutPrefix(pair, "access_token="); found {
			token, err := url.QueryUnescape(value)
			return token, err == nil && token != ""
		}
	}
	return "", false
}

// isNil is for a value whose type is known to be a pointer.
func isNil(who any) bool { return reflect.ValueOf(who).IsNil() }
