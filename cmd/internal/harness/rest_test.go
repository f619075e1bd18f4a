package harness

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
)

// complaints is a testing.TB that takes note of failures instead of failing.
type complaints struct {
	testing.TB

	all []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.all = append(c.all, fmt.Sprintf(format, args...))
}

// complain is what the checks at rest have to say.
func (s *Stack) complain() string {
	before := s.T
	defer func() { s.T = before }()
	noted := &complaints{TB: before}
	s.T = noted
	s.Check()
	return strings.Join(noted.all, "\n")
}

// TestEachCheckAtRestCanFail breaks one promise after the other behind both
// services' backs.
func TestEachCheckAtRestCanFail(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	live := s.Insist(s.Client().Post("/cvms", apitest.Spec("live", "services: {}")).Key("live")).Expect(http.StatusAccepted).CVM()
	gone := s.Insist(s.Client().Post("/cvms", apitest.Spec("gone", "services: {}")).Key("gone")).Expect(http.StatusAccepted).CVM()
	s.Wait(live.Operation.ID)
	s.Insist(s.Client().Request(http.MethodDelete, "/cvms/"+gone.VMUUID.String(), "")).Expect(http.StatusAccepted)
	s.AtRest()
	s.Each((*Node).Kill) // or they would repair it
	require.Empty(t, s.complain())

	stranger := api.NewMinter().ID()
	for what, broken := range map[string]struct {
		platform, owl, effect string
	}{
		"is missing at Owl":                        {owl: `DELETE FROM cvms WHERE deleted_at IS NULL`},
		"is Owl's alone and no recorded orphan":    {owl: `UPDATE cvms SET id = '` + stranger.String() + `' WHERE deleted_at IS NULL`},
		"never reached Owl and has no error":       {platform: `UPDATE cvms SET confirmed = false WHERE deleted_at IS NULL`, owl: `DELETE FROM cvms WHERE deleted_at IS NULL`},
		"is deleted: true here, false at Owl":      {platform: `UPDATE cvms SET deleting_at = now()`},
		"is generation 1 running here, 2 running":  {owl: `UPDATE cvms SET generation = 2, observed_generation = 2 WHERE deleted_at IS NULL`},
		"is generation 1 stopped here, 1 running":  {platform: `UPDATE cvms SET power = 'stopped' WHERE deleted_at IS NULL`},
		"was created 2 times":                      {effect: `{"id":"` + live.VMUUID.String() + `","effect":"create"}`},
		"was removed, then: start":                 {effect: `{"id":"` + gone.VMUUID.String() + `","effect":"start"}`},
		"runs: false; Owl wants it running":        {effect: `{"id":"` + live.VMUUID.String() + `","effect":"stop"}`},
		"was removed: true; deleted at Owl: false": {effect: `{"id":"` + live.VMUUID.String() + `","effect":"remove"}`},
		stranger.String() + " is unknown to Owl":   {effect: `{"id":"` + stranger.String() + `","effect":"create"}`},
		"was acknowledged and is gone":             {platform: `DELETE FROM operations`},
		"and no key and no answer names it":        {platform: `UPDATE cvms SET create_operation_id = 'op_x' WHERE deleted_at IS NULL`},
		"was for 0 CVMs and made 1":                {platform: `DELETE FROM operation_targets`},
		"a workspace's counter is off by 1":        {platform: `UPDATE workspaces SET cvms = cvms + 1`},
	} {
		undo := s.breakIt(t, broken.platform, broken.owl, broken.effect)
		require.Contains(t, s.complain(), what)
		undo()
	}
	require.Empty(t, s.complain(), "all of it is undone")
	s.journalFaults(t)
}

// breakIt changes what is stored, and returns how to change it back.
func (s *Stack) breakIt(t *testing.T, platform, owl, effect string) (undo func()) {
	t.Helper()
	one, other := s.PlatformDB.Begin(), s.OwlDB.Begin()
	if platform != "" {
		require.NoError(t, one.Exec(platform).Error, platform)
	}
	if owl != "" {
		require.NoError(t, other.Exec(owl).Error, owl)
	}
	path := filepath.Join(s.SimDir, "effects.jsonl")
	log, err := os.ReadFile(path)
	require.NoError(t, err)
	if effect != "" {
		require.NoError(t, os.WriteFile(path, append(slices.Clip(log), effect+"\n"...), 0o600))
	}
	platformDB, owlDB := s.PlatformDB, s.OwlDB
	s.PlatformDB, s.OwlDB = one, other // the checks see what is never committed
	return func() {
		s.PlatformDB, s.OwlDB = platformDB, owlDB
		require.NoError(t, one.Rollback().Error)
		require.NoError(t, other.Rollback().Error)
		require.NoError(t, os.WriteFile(path, log, 0o600))
	}
}

// journalFaults: two answers to one key that differ.
func (s *Stack) journalFaults(t *testing.T) {
	t.Helper()
	kept := s.Journal
	for what, second := range map[string]Acknowledged{
		"names":  {Key: "k", Status: http.StatusAccepted, Body: []byte(`{"id":"b"}`)},
		"echoes": {Key: "k", Status: http.StatusCreated, Body: []byte(`{"id":"a" }`)},
	} {
		s.Journal = newJournal()
		s.Journal.acknowledged = []Acknowledged{{Key: "k", Status: second.Status, Body: []byte(`{"id":"a"}`)}, second}
		require.Contains(t, s.complain(), what)
		s.KeysExpire = true
		require.NotContains(t, s.complain(), what)
		s.KeysExpire = false
	}
	s.Journal = kept
}

// reset forgets what was written since. Snapshots share the lines with the
// log, so it gets an array of its own.
func (l *lines) reset(all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.Clone(all)
}

// TestAProcessThatMisbehavesIsNoticed: it dies, panics or races.
func TestAProcessThatMisbehavesIsNoticed(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	owl, platform := s.Owls[0], s.Platforms[0]
	require.NoError(t, syscall.Kill(owl.run().cmd.Process.Pid, syscall.SIGKILL))
	<-owl.run().done
	require.Contains(t, s.complain(), "owl 1, process 1: ended unasked: signal: killed")
	owl.AwaitExit()
	require.Empty(t, s.complain(), "a death that somebody waited for is no fault")
	for _, line := range []string{"WARNING: DATA RACE", "panic: somewhere"} {
		log := platform.run().log
		before, _ := log.snapshot()
		_, _ = log.Write([]byte(line + "\n"))
		require.Contains(t, s.complain(), "platform 1, process 1: "+line)
		log.reset(before)
	}
	platform.Freeze()
	require.True(t, stopped(platform.run().cmd.Process.Pid))
	platform.Thaw()
	platform.Stop()
	require.Equal(t, "exit status 0", platform.AwaitExit())
}
