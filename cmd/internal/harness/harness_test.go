package harness_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
	"roost/cmd/internal/lossy"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestAStack goes through what scenarios do: lost answers, a kill, a freeze.
func TestAStack(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Platforms: 2, Owls: 2})
	s.Platforms[0].Front.SetPolicy(lossy.Nth(1, lossy.Writes, lossy.DropAnswer()))
	create := s.Client().Post("/cvms", apitest.Spec("web", "services: {}")).Key("k")
	reply := s.Insist(create)
	require.True(t, reply.Expect(http.StatusAccepted).Replayed())
	require.Equal(t, 1, s.Journal.Count(0))
	require.Equal(t, api.OperationSucceeded, s.Wait(reply.CVM().Operation.ID).Status)

	s.Platforms[0].Freeze()
	s.Insist(s.ClientOf(1).Post("/cvms/"+reply.CVM().VMUUID.String()+"/stop", "").Key("stop")).Expect(http.StatusAccepted)
	s.Platforms[0].Thaw()
	s.Owls[0].Kill()
	require.False(t, s.Owls[0].Running())
	s.Owls[0].Start()
	s.Platforms[1].Stop()
	s.FaultsEnded()
	s.AtRest()
	require.Equal(t, "create start stop", s.Machine(reply.CVM().VMUUID))
}
