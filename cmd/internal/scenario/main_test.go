package scenario_test

import (
	"testing"

	"roost/cmd/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
