// Package federation has black-box tests of several servers that federate.
package federation

import (
	"os"
	"testing"

	"beep/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
