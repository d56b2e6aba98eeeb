package contract

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// undeclared lists the keys of a value that no schema names for their place. The specification's schemas are open and
// most keys optional, so that a misspelt key passes plain validation. All branches of allOf, anyOf and oneOf count
// together; an object for which no key is named at all may hold anything.
func (d *documents) undeclared(n node, value any, part, at string) []Fault {
	schema, err := d.schema(n)
	if err != nil {
		return nil // validate has said it
	}
	w := walker{part: part, at: at}
	w.walk([]*jsonschema.Schema{schema}, value)
	return w.faults
}

type walker struct {
	part, at string
	faults   []Fault
}

// walk compares a value with all the schemas that apply to its place.
func (w *walker) walk(schemas []*jsonschema.Schema, value any) {
	if len(schemas) == 0 {
		return
	}
	switch value := value.(type) {
	case map[string]any:
		w.object(expand(schemas), value)
	case []any:
		items := expand(schemas)
		for i, item := range value {
			w.below(strconv.Itoa(i), itemSchemas(items, i), item)
		}
	}
}

func (w *walker) object(schemas []*jsonschema.Schema, object map[string]any) {
	if !slices.ContainsFunc(schemas, namesKeys) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		below, declared := keySchemas(schemas, key)
		if !declared && !namespaced(key) {
			w.faults = append(w.faults, Fault{Part: w.part, At: w.at + "/" + escapeKey(key), Rule: "undeclared", Message: "is not declared"})
		}
		w.below(key, below, object[key])
	}
}

func (w *walker) below(key string, schemas []*jsonschema.Schema, value any) {
	at := w.at
	w.at += "/" + escapeKey(key)
	w.walk(schemas, value)
	w.at = at
}

// expand adds to the schemas all that they refer to for the same place.
func expand(schemas []*jsonschema.Schema) []*jsonschema.Schema {
	var all []*jsonschema.Schema
	var add func(*jsonschema.Schema)
	add = func(s *jsonschema.Schema) {
		if s == nil || slices.Contains(all, s) {
			return
		}
		all = append(all, s)
		add(s.Ref)
		for _, branches := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, {s.If, s.Then, s.Else}} {
			for _, branch := range branches {
				add(branch)
			}
		}
	}
	for _, s := range schemas {
		add(s)
	}
	return all
}

func namesKeys(s *jsonschema.Schema) bool {
	_, additional := s.AdditionalProperties.(*jsonschema.Schema)
	return additional || len(s.Properties) > 0 || len(s.PatternProperties) > 0
}

// keySchemas returns the schemas for one key of an object, and whether any schema names the key.
func keySchemas(schemas []*jsonschema.Schema, key string) (below []*jsonschema.Schema, declared bool) {
	for _, s := range schemas {
		named := false
		if property, ok := s.Properties[key]; ok {
			below, named = append(below, property), true
		}
		for pattern, property := range s.PatternProperties {
			if pattern.MatchString(key) {
				below, named = append(below, property), true
			}
		}
		if !named {
			switch additional := s.AdditionalProperties.(type) {
			case *jsonschema.Schema:
				below, named = append(below, additional), true
			case bool:
				named = additional
			}
		}
		declared = declared || named
	}
	return below, declared
}

func itemSchemas(schemas []*jsonschema.Schema, i int) (items []*jsonschema.Schema) {
	for _, s := range schemas {
		if i < len(s.PrefixItems) {
			items = append(items, s.PrefixItems[i])
		} else if s.Items2020 != nil {
			items = append(items, s.Items2020)
		}
	}
	return items
}

// namespaced reports whether a key has the form that the specification leaves free for names not in it, such as
// org.matrix.msc1234.thing (appendices: common namespaced identifier grammar).
func namespaced(key string) bool {
	return strings.Contains(key, ".") && !strings.HasPrefix(key, "m.")
}
