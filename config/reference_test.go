package config

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const referenceFile = "../docs/configuration.md"

func TestReferenceIsCurrent(t *testing.T) {
	want, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(referenceFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is stale; run go test ./config -update\n%s", referenceFile, diff)
	}
}

func TestTemplateHasTheDefaults(t *testing.T) {
	text, err := Template(Default())
	if err != nil {
		t.Fatal(err)
	}
	got, r := Default(), newReport()
	blank(got)
	(&decoder{report: r, dir: t.TempDir()}).decode(text, got)
	if len(r.faults) > 0 {
		t.Fatal(r.faults)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Error(diff)
	}
}

// blank empties every value, so that what the template lacks is seen.
func blank(c *Config) { *c = Config{} }

func TestTemplateKeepsChoices(t *testing.T) {
	want := Default()
	want.ServerName = "example.org"
	want.Data = "/srv/data"
	want.Database.URL = NewSecret("postgres://u:p%23 w@h/d")
	want.Listeners = []Listener{{Address: "unix:/run/a.sock", Mode: 0o600}, {Address: "[::]:8448", TLS: &TLS{Certificate: "a", Key: "b"}}}
	text, err := Template(want)
	if err != nil {
		t.Fatal(err)
	}
	got, r := Default(), newReport()
	(&decoder{report: r, dir: t.TempDir()}).decode(text, got)
	if len(r.faults) > 0 {
		t.Fatal(r.faults)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	found, err := readDocs()
	if err != nil {
		t.Fatal(err)
	}
	text, err := Template(Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range allKeys() {
		if !strings.Contains(string(text), lastName(path)+":") && !strings.Contains(string(text), lastName(path)+": {file") {
			t.Errorf("the template lacks %s", path)
		}
	}
	walkFields(reflect.TypeFor[Config](), func(section reflect.Type, field reflect.StructField) {
		doc := found.of(section, field)
		if !strings.HasSuffix(doc, ".") && !strings.Contains(doc, "\n\t") {
			t.Errorf("%s.%s: the documentation %q is no sentence", section.Name(), field.Name, doc)
		}
	})
}

func walkFields(section reflect.Type, fn func(reflect.Type, reflect.StructField)) {
	for field := range section.Fields() {
		if keyOf(field) == "" {
			continue
		}
		fn(section, field)
		if inner := sectionOf(field.Type); inner != nil {
			walkFields(inner, fn)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := Template(Default())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("listeners: &a [*a]\n")
	f.Add("database: {url: [a]}\nregistration: {terms: [{languages: {en: null}}]}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, r := Default(), newReport()
		(&decoder{report: r, dir: t.TempDir()}).decode([]byte(text), cfg)
		cfg.validate(r)
		for _, fault := range r.faults {
			if fault.Message == "" {
				t.Errorf("a fault without a message: %+v", fault)
			}
		}
	})
}
