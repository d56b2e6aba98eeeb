package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// everywhere are the query keys that any operation takes: the old way to give an access token, and what an
// application service may add (application service API: identity assertion, timestamp massaging).
var everywhere = []string{"access_token", "user_id", "device_id", "ts"}

func (s *Spec) checkParameters(op *Operation, variables map[string]string, x *Exchange) []Fault {
	query, err := url.ParseQuery(x.URL.RawQuery)
	if err != nil {
		return []Fault{{Part: "request query", Rule: "query", Message: err.Error()}}
	}
	var faults []Fault
	known := slices.Clone(everywhere)
	for _, p := range op.parameters {
		var given []string
		switch p.in {
		case "path":
			given = []string{variables[p.name]}
		case "query":
			given = query[p.name]
			known = append(known, p.name)
			if p.kind() == "object" { // its keys are the keys of the query
				known = append(known, slices.Collect(maps.Keys(query))...)
				continue
			}
		case "header":
			given = x.RequestHeader.Values(p.name)
		}
		faults = append(faults, s.checkParameter(p, given)...)
	}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, key) && !namespaced(key) {
			faults = append(faults, Fault{Part: "request query", At: key, Rule: "undeclared", Message: "is not declared"})
		}
	}
	return faults
}

func (s *Spec) checkParameter(p parameter, given []string) []Fault {
	part := "request " + p.in
	if len(given) == 0 {
		if p.required {
			return []Fault{{Part: part, At: p.name, Rule: "required", Message: "is missing"}}
		}
		return nil
	}
	if len(given) > 1 && p.kind() != "array" {
		return []Fault{{Part: part, At: p.name, Rule: "repeated", Message: fmt.Sprintf("is given %d times", len(given))}}
	}
	faults := s.docs.validate(p.schema, p.convert(given), part, "")
	for i := range faults {
		faults[i].At = p.name + faults[i].At
	}
	return faults
}

// kind is the type of the parameter, "" if the schema offers alternatives, which are all strings.
func (p parameter) kind() string { return p.schema.at("type").text() }

// convert gives a parameter the type of its schema. What cannot be converted stays a string, which the schema refuses.
func (p parameter) convert(given []string) any {
	text := given[0]
	switch p.kind() {
	case "integer", "number":
		if _, err := strconv.ParseFloat(text, 64); err == nil && strings.Trim(text, "+-.0123456789eE") == "" {
			return json.Number(text)
		}
	case "boolean":
		if text == "true" || text == "false" {
			return text == "true"
		}
	case "array":
		values := make([]any, len(given))
		for i := range given {
			values[i] = given[i]
		}
		return values
	}
	return text
}
