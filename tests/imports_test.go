package tests

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The parts of the program, from the top down. Imports go downward only: an edge may
// import the domain and the ground, the domain the ground. Within the ground, and where
// the domain needs a part of the ground that is about HTTP, mayImport has the last word.
var (
	edges  = []string{"clientapi", "syncapi", "federation", "identity", "mediaapi", "appservice", "calls", "admin"}
	domain = []string{"roomserver", "account", "keys", "push", "oversight"}
	ground = []string{"storage", "stream", "web", "matrix", "config", "outbound"}

	mayImport = map[string][]string{
		"matrix":     {},
		"stream":     {},
		"config":     {"matrix"},
		"web":        {"matrix"},
		"outbound":   {},
		"storage":    {"matrix", "stream"},
		"roomserver": {"matrix", "storage", "stream"},
		"account":    {"matrix", "storage", "stream", "web"}, // web: who calls, and how often
		"keys":       {"matrix", "storage", "stream"},
		"push":       {"matrix", "storage", "stream"},
		"oversight":  {"matrix", "storage", "stream"},
		"eoffice":    {}, // it knows the server by its API only
	}
)

const module = "beep/"

// partOf is the first element of a package's path: all packages of a part count as one.
func partOf(path string) string {
	part, _, _ := strings.Cut(strings.TrimPrefix(path, module), "/")
	return part
}

// allowed tells whether the one part may import the other.
func allowed(importer, imported string) bool {
	switch list, ok := mayImport[importer]; {
	case importer == imported:
		return true
	case ok:
		return slices.Contains(list, imported)
	case slices.Contains(edges, importer):
		return slices.Contains(domain, imported) || slices.Contains(ground, imported)
	case importer == "cmd":
		return imported != "tests"
	}
	return importer == "tests"
}

type goPackage struct {
	ImportPath, Name, Dir string
	GoFiles, CgoFiles     []string
	Imports, Deps         []string
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,Imports,Deps"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(out); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportsGoDownward(t *testing.T) {
	for _, p := range goList(t, "./...") {
		importer := partOf(p.ImportPath)
		if _, listed := mayImport[importer]; !listed && !slices.Contains(slices.Concat(edges, []string{"cmd", "tests"}), importer) {
			t.Errorf("%s: this test does not know where the part belongs", p.ImportPath)
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) && !allowed(importer, partOf(imported)) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
		for _, name := range []string{"util", "utils", "common", "types", "helpers"} {
			if p.Name == name {
				t.Errorf("%s: the name %s says nothing", p.ImportPath, name)
			}
		}
	}
}

func TestProgramHasNoTestCode(t *testing.T) {
	for _, p := range goList(t, "./cmd/homeserver") {
		for _, name := range p.Deps {
			if name == "testing" || strings.HasPrefix(name, module+"tests") || strings.HasSuffix(name, "test") && strings.HasPrefix(name, module) {
				t.Errorf("the program has %s in it", name)
			}
		}
	}
}

// forbiddenCalls are selectors that no code of the server may use, with the reason.
var forbiddenCalls = map[string]string{
	"http.DefaultClient":    "it has no time limit, and goes to private addresses",
	"http.DefaultTransport": "it goes to private addresses",
	"http.Get":              "it uses the default client",
	"http.Head":             "it uses the default client",
	"http.Post":             "it uses the default client",
	"http.PostForm":         "it uses the default client",
	".FormValue":            "it parses multipart bodies into memory and files",
	".PostFormValue":        "it parses multipart bodies into memory and files",
	".FormFile":             "it parses multipart bodies into memory and files",
	".ParseMultipartForm":   "it parses multipart bodies into memory and files",
}

func TestForbiddenGo(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		isTest := strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, filepath.Join("..", "tests"))
		return checkFile(t, path, isTest)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, path string, isTest bool) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	usesMAC, comparesMAC := false, false
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				t.Errorf("%s: there is a function init", fset.Position(n.Pos()))
			}
		case *ast.SelectorExpr:
			name := "." + n.Sel.Name
			if x, ok := n.X.(*ast.Ident); ok {
				if _, forbidden := forbiddenCalls[name]; !forbidden {
					name = x.Name + name
				}
			}
			usesMAC = usesMAC || name == "hmac.New"
			comparesMAC = comparesMAC || name == "hmac.Equal" || name == "subtle.ConstantTimeCompare"
			if reason, forbidden := forbiddenCalls[name]; forbidden && !isTest {
				t.Errorf("%s: %s: %s", fset.Position(n.Pos()), name, reason)
			}
			if name == "synctest.Test" && filepath.Base(path) != "bubbletest.go" {
				t.Errorf("%s: the race detector may crash in it; use bubbletest.Test", fset.Position(n.Pos()))
			}
		}
		return true
	})
	if usesMAC && !comparesMAC && !isTest {
		t.Errorf("%s makes a MAC and does not compare it in constant time", path)
	}
	return nil
}
