package hostile

import (
	"os"
	"testing"

	"beep/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
