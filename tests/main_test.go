// Package tests holds the black-box tests: what the homeserver does over HTTP, as the
// specification has it, on both database engines.
package tests

import (
	"os"
	"testing"

	"beep/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
