package owlapitest_test

import (
	"testing"

	"roost/api/owlapi/owlapitest"
)

func TestFakeConforms(t *testing.T) {
	t.Parallel()
	_, url := owlapitest.Start(t, owlapitest.Config{Token: "secret"})
	owlapitest.Run(t, owlapitest.Server{URL: url, Token: "secret"})
}
