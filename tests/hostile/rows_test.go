package hostile

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every attack of the list that the tests go by is found by its number, F01 to F54 and F55a to
// F55i, in what is said of a test.
func TestEveryAttackHasATest(t *testing.T) {
	t.Parallel()
	var comments bytes.Buffer
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || d.Name() == "rows_test.go" {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "//") || strings.HasPrefix(line, "func TestAttack") {
				comments.WriteString(line)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for n := 1; n <= 54; n++ {
		rows = append(rows, fmt.Sprintf("F%02d", n))
	}
	for part := 'a'; part <= 'i'; part++ {
		rows = append(rows, fmt.Sprintf("F55%c", part))
	}
	for _, row := range rows {
		if !strings.Contains(comments.String(), row) {
			t.Errorf("no test says that it is about %s", row)
		}
	}
}
