package contract

import (
	_ "embed" // for the schema of sliding sync
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// documents holds the parsed files and the schemas compiled from them.
type documents struct {
	root string // absolute

	mu       sync.Mutex // guards all below; compiled schemas themselves are read-only
	parsed   map[string]any
	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema
}

func newDocuments(root string) *documents {
	d := &documents{root: root, parsed: map[string]any{}, compiled: map[string]*jsonschema.Schema{}}
	d.compiler = jsonschema.NewCompiler()
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	d.compiler.UseLoader(fileLoader{d})
	for _, f := range formats() {
		d.compiler.RegisterFormat(f)
	}
	d.parsed[filepath.Join(root, "api", "client-server", "definitions", slidingSyncFile)] = ownSchema(slidingSyncSchema)
	return d
}

// slidingSyncFile is what the schema of sliding sync is called, as if it stood among the specification's.
const slidingSyncFile = "sliding_sync.yaml"

//go:embed sliding_sync.yaml
var slidingSyncSchema []byte

// ownSchema reads a schema that is part of this package.
func ownSchema(text []byte) any {
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		panic("contract: " + err.Error())
	}
	return normalise(doc)
}

// fileLoader hands the parsed files to the schema compiler, which runs under documents.mu.
type fileLoader struct{ docs *documents }

// Load implements jsonschema.URLLoader for file URLs.
func (l fileLoader) Load(location string) (any, error) {
	file, err := jsonschema.FileLoader{}.ToFile(location)
	if err != nil {
		return nil, err
	}
	return l.docs.parse(file)
}

// parse returns the content of a YAML or JSON file as JSON values. The caller holds mu.
func (d *documents) parse(file string) (any, error) {
	if doc, ok := d.parsed[file]; ok {
		return doc, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", d.short(file), err)
	}
	doc = normalise(doc)
	d.parsed[file] = doc
	return doc, nil
}

// normalise turns what YAML has beyond JSON into JSON: keys that are not strings (the statuses of responses).
func normalise(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = normalise(value)
		}
	case map[any]any:
		object := make(map[string]any, len(v))
		for key, value := range v {
			object[fmt.Sprint(key)] = normalise(value)
		}
		return object
	case []any:
		for i := range v {
			v[i] = normalise(v[i])
		}
	}
	return v
}

// short names a file, or a schema's URL, relative to the specification's folder.
func (d *documents) short(location string) string {
	if u, err := url.Parse(location); err == nil && u.Scheme == "file" {
		location = u.Path + "#" + u.Fragment
	}
	location = strings.TrimPrefix(location, d.root+string(filepath.Separator))
	return strings.TrimPrefix(location, "api"+string(filepath.Separator))
}

// node is a place in a document. References found at it count from its file.
type node struct {
	file    string
	pointer string // JSON pointer
	value   any
}

func (d *documents) open(file string) (node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, err := d.parse(file)
	return node{file: file, value: doc}, err
}

// at returns the node below n at the given keys; its value is nil if there is none.
func (n node) at(keys ...string) node {
	for _, key := range keys {
		var value any
		switch v := n.value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(v) {
				value = v[i]
			}
		}
		n = node{n.file, n.pointer + "/" + escapeKey(key), value}
	}
	return n
}

func (n node) object() map[string]any {
	object, _ := n.value.(map[string]any)
	return object
}

func (n node) text() string {
	text, _ := n.value.(string)
	return text
}

func (n node) location() string {
	u := url.URL{Scheme: "file", Path: n.file, Fragment: n.pointer}
	return u.String()
}

// deref follows the references that stand outside of schemas (parameters, responses, headers, request bodies).
func (d *documents) deref(n node) (node, error) {
	for range 10 {
		if _, ok := n.object()["$ref"].(string); !ok {
			return n, nil
		}
		var err error
		if n, err = d.step(n); err != nil {
			return node{}, err
		}
	}
	return node{}, fmt.Errorf("%s%s: references go in a circle", d.short(n.file), n.pointer)
}

// step follows the reference at n once.
func (d *documents) step(n node) (node, error) {
	ref := n.at("$ref").text()
	path, pointer, _ := strings.Cut(ref, "#")
	file := n.file
	if path != "" {
		file = filepath.Join(filepath.Dir(n.file), filepath.FromSlash(path))
	}
	target, err := d.open(file)
	if err != nil {
		return node{}, err
	}
	if pointer != "" {
		target = target.at(splitPointer(pointer)...)
	}
	if target.value == nil {
		return node{}, fmt.Errorf("%s%s: reference %q leads nowhere", d.short(n.file), n.pointer, ref)
	}
	return target, nil
}

// schema compiles the schema at n where it stands, so that the references below it count from the right file.
func (d *documents) schema(n node) (*jsonschema.Schema, error) {
	location := n.location()
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.compiled[location]; ok {
		return s, nil
	}
	s, err := d.compiler.Compile(location)
	if err != nil {
		return nil, err
	}
	d.compiled[location] = s
	return s, nil
}

func escapeKey(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// splitPointer splits a JSON pointer, also one written as a URL fragment, into its keys.
func splitPointer(pointer string) []string {
	keys := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, key := range keys {
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		keys[i] = strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")
	}
	return keys
}
