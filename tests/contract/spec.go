// Package contract checks HTTP exchanges against the OpenAPI documents and event schemas of the Matrix
// specification. It is for tests only: a test client whose transport is a [Transport] fails the test at the first
// answer (or accepted request) that the specification does not allow.
package contract

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// DataEnv names the environment variable that holds the directory of the specification's data.
const DataEnv = "MATRIX_SPEC_DATA"

// apis are the folders below api/ whose operations are checked. The identity service is not part of a homeserver.
var apis = []string{"client-server", "server-server", "application-service", "push-gateway"}

// Spec is the loaded specification. Its methods may be called concurrently.
type Spec struct {
	docs       *documents
	operations []*Operation
	byShape    map[shape][]*Operation
	events     map[string][]eventFile
	coverage   *Coverage
	versions   sync.Map // room id → room version, learned from the exchanges seen
}

// Load reads the OpenAPI documents below dir (the folder data of the matrix-spec repository) and lists its event
// schemas. Schemas are compiled when they are first needed.
func Load(dir string) (*Spec, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("specification folder: %w", err)
	}
	if err := present(dir); err != nil {
		return nil, err
	}
	s := &Spec{docs: newDocuments(dir), byShape: map[shape][]*Operation{}}
	for _, api := range apis {
		if err := s.loadFolder(filepath.Join(dir, "api", api)); err != nil {
			return nil, err
		}
	}
	s.index()
	if s.events, err = listEvents(dir); err != nil {
		return nil, err
	}
	s.coverage = newCoverage(s.operations)
	return s, nil
}

// DefaultDir finds the specification's data: the directory that the environment variable MATRIX_SPEC_DATA names, else
// shared/matrix-spec/data beside the root of the checkout (the nearest folder upwards that holds go.mod).
// The error says where the data has to be put.
func DefaultDir() (string, error) {
	if dir := os.Getenv(DataEnv); dir != "" {
		return dir, present(dir)
	}
	root, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	for !exists(filepath.Join(root, "go.mod")) {
		parent := filepath.Dir(root)
		if parent == root {
			return "", fmt.Errorf("no go.mod above the working directory: set %s to the folder data of the matrix-spec repository", DataEnv)
		}
		root = parent
	}
	dir := filepath.Join(filepath.Dir(root), "shared", "matrix-spec", "data")
	return dir, present(dir)
}

func present(dir string) error {
	if exists(filepath.Join(dir, "api", "client-server")) {
		return nil
	}
	return fmt.Errorf("the schemas of the Matrix specification are not in %s: put the folder data of "+
		"https://github.com/matrix-org/matrix-spec there, or set %s to where it is", dir, DataEnv)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Operations returns the operations of the specification, sorted by name.
func (s *Spec) Operations() []*Operation { return slices.Clone(s.operations) }

// Coverage counts what the exchanges checked so far have exercised.
func (s *Spec) Coverage() *Coverage { return s.coverage }

func (s *Spec) loadFolder(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		operations, err := s.docs.operations(file)
		if err != nil {
			return fmt.Errorf("%s: %w", s.docs.short(file), err)
		}
		s.operations = append(s.operations, operations...)
	}
	return nil
}

// index gives the operations their names and sorts them into the table that match looks in.
func (s *Spec) index() {
	count := map[string]int{}
	for _, op := range s.operations {
		count[op.Method+" "+op.Path]++
	}
	for _, op := range s.operations {
		op.Name = op.Method + " " + op.Path
		if count[op.Name] > 1 {
			op.Name += " (" + op.ID + ")"
		}
		for _, sh := range op.shapes() {
			s.byShape[sh] = append(s.byShape[sh], op)
		}
	}
	slices.SortFunc(s.operations, func(a, b *Operation) int { return strings.Compare(a.Name, b.Name) })
	for _, ops := range s.byShape {
		slices.SortStableFunc(ops, func(a, b *Operation) int { return a.variables() - b.variables() })
	}
}
