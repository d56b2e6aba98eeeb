package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	// Key is the path of the key, as listeners[0].tls.key; empty when the file as a
	// whole is at fault.
	Key string
	// Line is the line of the file; 0 when the value did not come from the file.
	Line int
	// Message says what is wrong and what would be right.
	Message string
}

// Faults is everything that is wrong with a configuration, in the order of the
// file. It is the error that [Load] gives.
type Faults struct {
	// File is the path of the file; empty when there was none.
	File string
	// List is never empty.
	List []Fault
}

// Error has one line for each fault.
func (f *Faults) Error() string {
	lines := make([]string, len(f.List))
	for i, fault := range f.List {
		lines[i] = f.where(fault) + fault.Message
	}
	return strings.Join(lines, "\n")
}

func (f *Faults) where(fault Fault) string {
	var parts []string
	switch {
	case f.File != "" && fault.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d: ", f.File, fault.Line))
	case f.File != "" && fault.Key == "":
		parts = append(parts, f.File+": ")
	}
	if fault.Key != "" {
		parts = append(parts, fault.Key+": ")
	}
	return strings.Join(parts, "")
}

// report collects faults; a key's first fault hides the later ones, which mostly
// follow from it.
type report struct {
	lines  map[string]int
	faults []Fault
}

func newReport() *report { return &report{lines: map[string]int{}} }

// add notes a fault of the key. Its line is that of the key, or of the nearest
// section around it that the file has.
func (r *report) add(key, format string, args ...any) {
	r.addAt(key, r.line(key), format, args...)
}

func (r *report) addAt(key string, line int, format string, args ...any) {
	if slices.ContainsFunc(r.faults, func(f Fault) bool { return f.Key == key && key != "" }) {
		return
	}
	r.faults = append(r.faults, Fault{Key: key, Line: line, Message: fmt.Sprintf(format, args...)})
}

func (r *report) line(key string) int {
	for key != "" {
		if line, ok := r.lines[key]; ok {
			return line
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// forget drops the lines of the key and of those under it: its value did not come
// from the file.
func (r *report) forget(key string) {
	maps.DeleteFunc(r.lines, func(known string, _ int) bool {
		rest, under := strings.CutPrefix(known, key)
		return under && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// err is the collected faults as an error, or nil.
func (r *report) err(file string) error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
	return &Faults{File: file, List: r.faults}
}
