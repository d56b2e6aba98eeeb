package contract

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// CoverageEnv names the environment variable that holds the file in which the coverage of several processes is summed.
const CoverageEnv = "CONTRACT_COVERAGE"

// Pair is an operation with one of its answers.
type Pair struct {
	Operation string // Operation.Name
	Status    int
}

// Coverage counts which answers of which operations were checked, and which errata were needed.
// Its methods may be called concurrently.
type Coverage struct {
	listed []Pair // in the documents, sorted

	mu     sync.Mutex
	seen   map[Pair]int
	errata map[string]int // by name
}

func newCoverage(operations []*Operation) *Coverage {
	c := &Coverage{seen: map[Pair]int{}, errata: map[string]int{}}
	for _, op := range operations {
		for _, status := range slices.Sorted(maps.Keys(op.responses)) {
			c.listed = append(c.listed, Pair{op.Name, status})
		}
	}
	return c
}

// count adds one exchange; operation is "" if it belongs to none.
func (c *Coverage) count(operation string, status int, errata []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if operation != "" {
		c.seen[Pair{operation, status}]++
	}
	for _, name := range errata {
		c.errata[name]++
	}
}

// Seen returns how often each pair was exercised, with statuses that the documents do not list too.
func (c *Coverage) Seen() map[Pair]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.seen)
}

// Missing returns the listed pairs that were never exercised, sorted.
func (c *Coverage) Missing() []Pair {
	seen := c.Seen()
	return slices.DeleteFunc(slices.Clone(c.listed), func(p Pair) bool { return seen[p] > 0 })
}

// UnusedErrata returns the errata that excused nothing: after a run that exercises everything, there are none.
func (c *Coverage) UnusedErrata() []Erratum {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(errata), func(e Erratum) bool { return c.errata[e.Name] > 0 })
}

// String is a report: totals, then one line for each operation with the answers that were never seen.
func (c *Coverage) String() string {
	seen, missing := c.Seen(), c.Missing()
	touched, operations := map[string]bool{}, map[string]bool{}
	for p := range seen {
		touched[p.Operation] = true
	}
	never := map[string][]string{}
	for _, p := range c.listed {
		operations[p.Operation] = true
	}
	for _, p := range missing {
		never[p.Operation] = append(never[p.Operation], strconv.Itoa(p.Status))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "operations: %d of %d exercised\nanswers: %d of %d exercised\n",
		len(touched), len(operations), len(c.listed)-len(missing), len(c.listed))
	for _, name := range slices.Sorted(maps.Keys(never)) {
		if touched[name] {
			fmt.Fprintf(&b, "%s: never %s\n", name, strings.Join(never[name], " "))
		} else {
			fmt.Fprintf(&b, "%s: never called\n", name)
		}
	}
	for _, e := range c.UnusedErrata() {
		fmt.Fprintf(&b, "erratum not needed: %s\n", e.Name)
	}
	return b.String()
}

// Save adds the counts to the file that the environment variable CONTRACT_COVERAGE names; without it, Save does
// nothing. Several processes may save to the same file.
func (c *Coverage) Save() error {
	path := os.Getenv(CoverageEnv)
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("coverage: %w", err)
	}
	// One write: appends of several processes do not mix.
	if _, err := f.WriteString(c.lines()); err != nil {
		f.Close()
		return fmt.Errorf("coverage: %w", err)
	}
	return f.Close()
}

func (c *Coverage) lines() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	order := func(x, y Pair) int {
		return cmp.Or(strings.Compare(x.Operation, y.Operation), x.Status-y.Status)
	}
	for _, p := range slices.SortedFunc(maps.Keys(c.seen), order) {
		fmt.Fprintf(&b, "answer\t%s\t%d\t%d\n", p.Operation, p.Status, c.seen[p])
	}
	for _, name := range slices.Sorted(maps.Keys(c.errata)) {
		fmt.Fprintf(&b, "erratum\t%s\t%d\n", name, c.errata[name])
	}
	return b.String()
}

// Merge adds the counts that other processes saved in a file.
func (c *Coverage) Merge(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("coverage: %w", err)
	}
	defer f.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if err := c.mergeLine(strings.Split(lines.Text(), "\t")); err != nil {
			return fmt.Errorf("coverage: %s: line %q: %w", path, lines.Text(), err)
		}
	}
	return lines.Err()
}

func (c *Coverage) mergeLine(fields []string) error {
	n, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return err
	}
	switch {
	case len(fields) == 4 && fields[0] == "answer":
		status, err := strconv.Atoi(fields[2])
		if err != nil {
			return err
		}
		c.seen[Pair{fields[1], status}] += n
		return nil
	case len(fields) == 3 && fields[0] == "erratum":
		c.errata[fields[1]] += n
		return nil
	}
	return fmt.Errorf("not a line of a coverage file")
}
