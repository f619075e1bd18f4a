package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

// TestANameOfSeveralMeansTheOneThatIsNoCopy, and with replica the copy. Where
// that is not one, the candidates are shown and nothing is asked for.
func TestANameOfSeveralMeansTheOneThatIsNoCopy(t *testing.T) {
	t.Parallel()
	first, other, copied, second := api.ID{15: 1}, api.ID{15: 2}, api.ID{15: 3}, api.ID{15: 4}
	cvm := func(id api.ID, of *api.ID) api.CVM {
		c := someCVM(api.StatusRunning, api.OperationSucceeded)
		c.VMUUID, c.ID, c.ReplicaOf = id, id, of
		return c
	}
	gone := cvm(other, nil)
	gone.Status = api.StatusDeleting
	for name, c := range map[string]struct {
		cvms   []api.CVM
		args   string
		meant  api.ID // of the request; zero: none
		code   int
		stderr []string
	}{
		"the first":              {[]api.CVM{cvm(first, nil), cvm(copied, &first), cvm(second, &first)}, "cvm stop", first, exitOK, nil},
		"the first's rules":      {[]api.CVM{cvm(copied, &first), cvm(first, nil)}, "firewall list", first, exitOK, nil},
		"beside one that leaves": {[]api.CVM{gone, cvm(first, nil), cvm(copied, &first)}, "cvm delete", first, exitOK, nil},
		"one that leaves":        {[]api.CVM{cvm(copied, &first), gone}, "cvm delete", other, exitOK, nil},
		"no copy in its place":   {[]api.CVM{cvm(copied, &first)}, "cvm delete", api.ID{}, exitNotFound, []string{`there is no first CVM "web"`}},
		"nothing":                {nil, "cvm delete", api.ID{}, exitNotFound, []string{`there is no CVM "web"`}},
		"a copy alone":           {[]api.CVM{cvm(copied, &first)}, "cvm stop", copied, exitOK, nil},
		"copies of none":         {[]api.CVM{cvm(copied, &first), cvm(second, &first)}, "cvm stop", api.ID{}, exitUsage, []string{copied.String() + "  running, a copy of " + first.String(), second.String()}},
		"firsts of two apps":     {[]api.CVM{cvm(first, nil), cvm(other, nil), cvm(copied, &first)}, "cvm stop", api.ID{}, exitUsage, []string{first.String() + "  running, the first of app", other.String(), copied.String()}},
		"the copy":               {[]api.CVM{cvm(first, nil), cvm(copied, &first)}, "replica delete", copied, exitOK, nil},
		"one of the copies":      {[]api.CVM{cvm(first, nil), cvm(copied, &first), cvm(second, &first)}, "replica delete", api.ID{}, exitUsage, []string{copied.String(), second.String()}},
		"no copy":                {[]api.CVM{cvm(first, nil)}, "replica delete", api.ID{}, exitNotFound, []string{`there is no copy "web"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(http.StatusOK, api.Page[api.CVM]{Items: append([]api.CVM{}, c.cvms...)}), func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/firewall-rules") {
					answer(http.StatusOK, api.Page[api.FirewallRule]{Items: []api.FirewallRule{}})(w, r)
					return
				}
				answer(http.StatusAccepted, someCVM(api.StatusStopping, api.OperationPending))(w, r)
			})
			b := setup(t).at(s.URL, canaryToken)
			require.Equal(t, c.code, b.run(append(strings.Fields(c.args), "web")...), b.err)
			for _, want := range c.stderr {
				require.Contains(t, b.err.String(), want)
			}
			if c.meant.IsZero() {
				require.Len(t, s.seen(), 1, "nothing but the list")
				return
			}
			require.Contains(t, s.seen()[1].URL.Path, "/cvms/"+c.meant.String())
		})
	}
}
