package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder fills a configuration from a file's text. It goes on after a fault, and
// remembers the line of each key.
type decoder struct {
	*report
	dir string // what relative paths of secrets are relative to
}

// decode overwrites the keys of cfg that the text has.
func (d *decoder) decode(text []byte, cfg *Config) {
	var document yaml.Node
	reader := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := reader.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(err)
		}
		return
	}
	if err := reader.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		d.addAt("", 0, "the file has more than one document")
		return
	}
	d.value(document.Content[0], reflect.ValueOf(cfg).Elem(), "")
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

func (d *decoder) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if match := syntaxLine.FindStringSubmatch(message); match != nil {
		line, _ = strconv.Atoi(match[1]) // the pattern has digits only
		message = message[len(match[0]):]
	}
	d.addAt("", line, "this is not YAML: %s", message)
}

// value decodes node into v, the value of the key at path. Null leaves the default.
func (d *decoder) value(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if secret, ok := v.Addr().Interface().(*Secret); ok {
		d.secret(node, secret, path)
		return
	}
	if node.Tag == "!!null" {
		return
	}
	if isText(v) {
		d.scalar(node, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(node, v.Elem(), path)
	case reflect.Slice:
		d.list(node, v, path)
	case reflect.Map:
		d.table(node, v, path)
	case reflect.Struct:
		d.section(node, v, path)
	default:
		d.scalar(node, v, path)
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

func (d *decoder) secret(node *yaml.Node, secret *Secret, path string) {
	var err error
	if *secret, err = secretFrom(node, d.dir); err != nil {
		d.add(path, "%v", err)
	}
}

// section decodes a mapping whose keys are the fields of a struct.
func (d *decoder) section(node *yaml.Node, v reflect.Value, path string) {
	d.entries(node, path, func(key string, keyNode, value *yaml.Node) {
		if field, found := fieldOf(v, key); found {
			d.value(value, field, join(path, key))
			return
		}
		message := fmt.Sprintf("there is no key %q here", key)
		if meant := suggestion(key, keysOf(v.Type()), allKeys()); meant != "" {
			message += fmt.Sprintf("; is it %s?", meant)
		}
		d.addAt(join(path, key), keyNode.Line, "%s", message)
	})
}

// table decodes a mapping whose keys are free.
func (d *decoder) table(node *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.entries(node, path, func(key string, _, value *yaml.Node) {
		element := reflect.New(v.Type().Elem()).Elem()
		if element.Kind() == reflect.Interface {
			if err := value.Decode(element.Addr().Interface()); err != nil {
				d.add(join(path, key), "%v", err)
				return
			}
		} else {
			d.value(value, element, join(path, key))
		}
		v.SetMapIndex(reflect.ValueOf(key), element)
	})
}

// entries calls fn for each entry of a mapping.
func (d *decoder) entries(node *yaml.Node, path string, fn func(key string, keyNode, value *yaml.Node)) {
	if node.Kind != yaml.MappingNode {
		d.addAt(path, node.Line, "expected keys with values, not %s", describe(node))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		keyNode := node.Content[i]
		key := keyNode.Value
		if seen[key] {
			d.addAt(join(path, key), keyNode.Line, "this key is given twice")
			continue
		}
		seen[key] = true
		d.lines[join(path, key)] = keyNode.Line
		fn(key, keyNode, node.Content[i+1])
	}
}

func (d *decoder) list(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind != yaml.SequenceNode {
		d.addAt(path, node.Line, "expected a list, not %s", describe(node))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		d.lines[itemPath] = item.Line
		d.value(item, v.Index(i), itemPath)
	}
}

func (d *decoder) scalar(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind != yaml.ScalarNode {
		d.addAt(path, node.Line, "expected one value, not %s", describe(node))
		return
	}
	if err := setScalar(node, v); err != nil {
		d.addAt(path, node.Line, "%v", err)
	}
}

func setScalar(node *yaml.Node, v reflect.Value) error {
	switch target := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(node.Value))
	case *time.Duration:
		duration, err := ParseDuration(node.Value)
		if err == nil {
			*target = duration
		}
		return err
	case *string:
		*target = node.Value
		return nil
	case *int: // YAML's own decoding cuts fractions off
		n, err := strconv.Atoi(node.Value)
		if err != nil {
			return fmt.Errorf("expected a whole number, not %q", node.Value)
		}
		*target = n
		return nil
	}
	if node.Decode(v.Addr().Interface()) != nil {
		return fmt.Errorf("expected %s, not %q", kindNames[v.Kind()], node.Value)
	}
	return nil
}

var kindNames = map[reflect.Kind]string{
	reflect.Bool: "true or false", reflect.Float64: "a number",
}

func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(node.Value)
}
