// Package clients lets real Matrix clients talk with each other through the homeserver, each
// with its own sync loop, on both database engines.
package clients

import (
	"os"
	"testing"

	"beep/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
