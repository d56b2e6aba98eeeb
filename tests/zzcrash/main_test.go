// Package crash kills servers while they work, again and again, and holds them to what
// they have answered.
package crash

import (
	"os"
	"testing"

	"beep/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
