package config

import (
	_ "embed"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// source is the text whose doc comments document the keys.
//
//go:embed config.go
var source string

// docs has the doc comment of each field, by "Type.Field".
type docs map[string]string

func readDocs() (docs, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("reading the documentation of the keys: %w", err)
	}
	found := docs{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, isType := n.(*ast.TypeSpec)
		if !isType {
			return true
		}
		if fields, isStruct := spec.Type.(*ast.StructType); isStruct {
			for _, field := range fields.Fields.List {
				found[spec.Name.Name+"."+field.Names[0].Name] = strings.TrimSpace(field.Doc.Text())
			}
		}
		return false
	})
	return found, nil
}

func (d docs) of(section reflect.Type, field reflect.StructField) string {
	return d[section.Name()+"."+field.Name]
}

// Template is a configuration file that has every key with its documentation and
// its value in c, secrets included.
func Template(c *Config) ([]byte, error) {
	found, err := readDocs()
	if err != nil {
		return nil, err
	}
	t := &template{docs: found}
	t.comment("", templateHead)
	t.section(reflect.ValueOf(c).Elem(), "")
	return []byte(t.text.String()), t.err
}

const templateHead = `The configuration of the homeserver. Every key is here with its value; a key that
is left out has its default. "homeserver check-config" says what is wrong with
a changed file. Durations are written as 30s, 5m, 1h, 7d and sizes as 64 KiB, 50 MiB.
A secret is written as itself, as {file: /path} or as {env: NAME}.`

type template struct {
	docs docs
	text strings.Builder
	err  error
}

func (t *template) comment(indent, text string) {
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "  ")
		t.text.WriteString(strings.TrimRight(indent+"# "+line, " ") + "\n")
	}
}

func (t *template) section(v reflect.Value, indent string) {
	for field, value := range v.Fields() {
		key := keyOf(field)
		if key == "" {
			continue
		}
		t.text.WriteString("\n")
		t.comment(indent, t.docs.of(v.Type(), field))
		secret, isSecret := value.Interface().(Secret)
		switch {
		case isSection(field):
			t.text.WriteString(indent + key + ":\n")
			t.section(value, indent+"  ")
		case isSecret && !secret.IsSet():
			t.text.WriteString(indent + "# " + key + ": {file: /path/to/" + key + "}\n")
		default:
			t.comment(indent, t.entryKeys(field.Type))
			t.value(key, value, indent)
		}
	}
}

// entryKeys documents the keys of a list's entries.
func (t *template) entryKeys(list reflect.Type) string {
	entry := sectionOf(list)
	if entry == nil || list.Kind() == reflect.Struct {
		return ""
	}
	var text strings.Builder
	text.WriteString("Each has:\n")
	t.describeEntry(&text, entry, "")
	return text.String()
}

func (t *template) describeEntry(text *strings.Builder, entry reflect.Type, path string) {
	for field := range entry.Fields() {
		key := join(path, keyOf(field))
		doc := strings.ReplaceAll(t.docs.of(entry, field), "\n", "\n      ")
		fmt.Fprintf(text, "  %s: %s\n", key, doc)
		if inner := sectionOf(field.Type); inner != nil {
			t.describeEntry(text, inner, key+freeKey(field.Type))
		}
	}
}

// freeKey stands for the keys of a mapping that the operator chooses.
func freeKey(t reflect.Type) string {
	if t.Kind() == reflect.Map {
		return ".<name>"
	}
	return ""
}

// value writes a key with its value. Structs, which are values here, take one line.
func (t *template) value(key string, value reflect.Value, indent string) {
	node := &yaml.Node{}
	err := node.Encode(plain(value))
	if value.Kind() == reflect.Struct {
		node.Style |= yaml.FlowStyle
	}
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	t.err = errors.Join(t.err, err, encoder.Encode(map[string]*yaml.Node{key: node}), encoder.Close())
	for line := range strings.Lines(text.String()) {
		t.text.WriteString(indent + line)
	}
}

// plain is the value as YAML writes it.
func plain(value reflect.Value) any {
	switch v := value.Interface().(type) {
	case time.Duration:
		return formatDuration(v)
	case Secret:
		return v.Reveal()
	}
	return value.Interface()
}

// isSection tells whether the field is a section of the file rather than one value.
func isSection(field reflect.StructField) bool {
	_, flow := strings.CutSuffix(field.Tag.Get("yaml"), ",flow")
	return field.Type.Kind() == reflect.Struct && field.Type != reflect.TypeFor[Secret]() && !flow
}

// Reference is the documentation of every key, in Markdown.
func Reference() ([]byte, error) {
	found, err := readDocs()
	if err != nil {
		return nil, err
	}
	t := &template{docs: found}
	t.text.WriteString(referenceHead)
	t.referenceSection(reflect.ValueOf(Default()).Elem(), "")
	return []byte(t.text.String()), t.err
}

const referenceHead = "# Configuration\n\n" +
	"<!-- Made from config/config.go by `go test ./config -update`. -->\n\n" +
	"The server needs no configuration to start. To change something, write `homeserver.yaml` with `homeserver init`, or by hand:\n" +
	"a key that is left out has its default. The server reads the file that `--config` names, else `homeserver.yaml` of the current directory.\n" +
	"`homeserver check-config` names every fault of a file, with its line. A key that does not exist is a fault.\n\n" +
	"- Durations are written as `30s`, `5m`, `1h`, `7d`, sizes as `64 KiB`, `50 MiB`.\n" +
	"- A secret is written as itself, as `{file: /path}` or as `{env: NAME}`. It is never printed. One that is empty or that everybody knows is a fault.\n" +
	"- Relative paths are relative to the directory of the file.\n"

func (t *template) referenceSection(v reflect.Value, path string) {
	for field, value := range v.Fields() {
		if keyOf(field) == "" {
			continue
		}
		key := join(path, keyOf(field))
		if isSection(field) {
			fmt.Fprintf(&t.text, "\n%s %s\n\n%s\n", strings.Repeat("#", 2+strings.Count(key, ".")), key, markdown(t.docs.of(v.Type(), field)))
			t.referenceSection(value, key)
			continue
		}
		fmt.Fprintf(&t.text, "\n`%s` (default: %s)\n\n%s\n", key, shownDefault(value), markdown(t.docs.of(v.Type(), field)))
		t.referenceEntry(field.Type)
	}
}

func (t *template) referenceEntry(list reflect.Type) {
	entry := sectionOf(list)
	if entry == nil || list.Kind() == reflect.Struct {
		return
	}
	t.text.WriteString("\n")
	t.entryItems(entry, "")
}

func (t *template) entryItems(entry reflect.Type, path string) {
	for field := range entry.Fields() {
		key := join(path, keyOf(field))
		fmt.Fprintf(&t.text, "- `%s`: %s\n", key, strings.ReplaceAll(t.docs.of(entry, field), "\n", "\n  "))
		if inner := sectionOf(field.Type); inner != nil {
			t.entryItems(inner, key+freeKey(field.Type))
		}
	}
}

func shownDefault(value reflect.Value) string {
	if _, secret := value.Interface().(Secret); secret {
		return "not set"
	}
	node := &yaml.Node{}
	if err := node.Encode(plain(value)); err != nil {
		return err.Error()
	}
	if len(node.Content) > 0 {
		node.Style = yaml.FlowStyle
	}
	text, err := yaml.Marshal(node)
	if err != nil {
		return err.Error()
	}
	return "`" + strings.TrimSpace(string(text)) + "`"
}

// markdown turns a doc comment's indented examples into code blocks.
func markdown(doc string) string {
	return strings.ReplaceAll(doc, "\n\t", "\n    ")
}
