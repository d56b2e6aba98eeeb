package config

import (
	"reflect"
	"strings"
)

// keyOf is the name that the field has in a file; empty for none.
func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// keysOf lists the keys of a section.
func keysOf(section reflect.Type) []string {
	var keys []string
	for field := range section.Fields() {
		if key := keyOf(field); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// fieldOf is the field of the section's value that has this key.
func fieldOf(section reflect.Value, key string) (reflect.Value, bool) {
	for field, value := range section.Fields() {
		if key != "" && keyOf(field) == key {
			return value, true
		}
	}
	return reflect.Value{}, false
}

// allKeys lists the path of every key, as limits.rates.login.burst. The keys of a
// list's entries stand under the list, as listeners.address.
func allKeys() []string { return keysUnder(reflect.TypeFor[Config](), "") }

func keysUnder(t reflect.Type, path string) []string {
	var keys []string
	for field := range t.Fields() {
		if key := keyOf(field); key != "" {
			keys = append(keys, join(path, key))
			if section := sectionOf(field.Type); section != nil {
				keys = append(keys, keysUnder(section, join(path, key))...)
			}
		}
	}
	return keys
}

// sectionOf is the struct with keys that t is or holds; nil for plain values.
func sectionOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct && len(keysOf(t)) > 0 {
		return t
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// lastName is the key at the end of a path.
func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
