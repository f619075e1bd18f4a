package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"roost/api"
	"roost/api/client"
)

// machines are the CVMs of an app on all three levels, as sorted IDs: those
// that Platform lists and that are not on their way out, those that Owl keeps,
// and those that the driver has made and not removed.
type machines struct{ platform, owl, driver []string }

// agree reports whether the three levels have the same machines.
func (m machines) agree() bool {
	return slices.Equal(m.platform, m.owl) && slices.Equal(m.owl, m.driver)
}

// machinesOf looks at all three levels. app may be zero: it has none then.
func machinesOf(t *testing.T, app api.ID) machines {
	t.Helper()
	if app.IsZero() {
		return machines{}
	}
	m := machines{platform: listed(t, app)}
	mine := map[string]bool{}
	for _, r := range owlRecords(t) {
		if r.AppID == app.String() {
			mine[r.ID] = true
			if r.DeletedAt == nil && r.Status != "deleting" && r.Status != "deleted" {
				m.owl = append(m.owl, r.ID)
			}
		}
	}
	made := map[string]int{}
	for _, e := range effects(t) {
		switch e.Effect {
		case "create":
			made[e.ID]++
		case "remove":
			made[e.ID] = 0
		}
		if made[e.ID] > 1 {
			t.Errorf("the machine %s was made twice", e.ID)
		}
	}
	for id, n := range made {
		if n > 0 && mine[id] {
			m.driver = append(m.driver, id)
		}
	}
	slices.Sort(m.owl)
	slices.Sort(m.driver)
	return m
}

// listed are Platform's, sorted.
func listed(t *testing.T, app api.ID) []string {
	t.Helper()
	var out []string
	for _, c := range listedCVMs(t, app) {
		out = append(out, c.VMUUID.String())
	}
	slices.Sort(out)
	return out
}

// listedCVMs are Platform's, oldest first, without those on their way out.
func listedCVMs(t *testing.T, app api.ID) []api.CVM {
	t.Helper()
	cvms, err := shared.client.AppCVMs(t.Context(), app)
	if err != nil && !client.IsNotFound(err) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(cvms, func(c api.CVM) bool { return c.Status == api.StatusDeleting })
}

// appNamed is the ID of an app, zero if the workspace has none of the name.
func appNamed(t *testing.T, name string) api.ID {
	t.Helper()
	for a, err := range shared.client.Apps(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if a.Name == name {
			return a.AppID
		}
	}
	return api.ID{}
}

// owlRecord is what matters of a record of Owl's.
type owlRecord struct {
	ID        string  `json:"id"`
	AppID     string  `json:"app_id"`
	Status    string  `json:"status"`
	DeletedAt *string `json:"deleted_at"`
	Spec      struct {
		EncryptedEnv string   `json:"encrypted_env"`
		EnvKeys      []string `json:"env_keys"`
	} `json:"spec"`
}

// environmentsOf are those that Owl has for the live CVMs of an app.
func environmentsOf(t *testing.T, name string) (out []string) {
	t.Helper()
	app := appNamed(t, name).String()
	for _, r := range owlRecords(t) {
		if r.AppID == app && r.DeletedAt == nil && r.Status != "deleting" {
			out = append(out, fmt.Sprint(r.Spec.EncryptedEnv, r.Spec.EnvKeys))
		}
	}
	return out
}

// callOwl asks Owl as its operator could. The caller closes the body.
func callOwl(t *testing.T, method, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, shared.owl+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+shared.owlToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// deleteBelow takes what Platform wants away from it: a CVM ("cvms") or a rule
// ("firewall-rules").
func deleteBelow(t *testing.T, what, id string) {
	t.Helper()
	resp := callOwl(t, http.MethodDelete, "/v1/"+what+"/"+id)
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("delete %s %s at Owl: %s: %v", what, id, resp.Status, err)
	}
}

// die deletes CVMs below Platform and waits until it has found out.
func die(t *testing.T, cvms ...api.CVM) {
	t.Helper()
	for _, c := range cvms {
		deleteBelow(t, "cvms", c.VMUUID.String())
	}
	for _, c := range cvms {
		eventually(t, "Platform finds a CVM deleted", func() bool {
			now, err := shared.client.CVM(t.Context(), c.VMUUID)
			return err == nil && now.Status == api.StatusFailed && now.Error != nil && now.Error.Code == string(api.CodeResourceDeleted)
		})
	}
}

// freeze keeps a machine from changing, by the lock that the sim takes to do it.
func freeze(t *testing.T, id api.ID) (thaw func()) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(shared.simDir, "locks", id.String()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	thaw = sync.OnceFunc(func() { _ = lock.Close() })
	t.Cleanup(thaw)
	return thaw
}

// owlRecords asks Owl for everything.
func owlRecords(t *testing.T) (out []owlRecord) {
	t.Helper()
	const limit = 200
	after := ""
	for {
		resp := callOwl(t, http.MethodGet, fmt.Sprintf("/v1/cvms?limit=%d&after=%s", limit, after))
		var page struct{ Items []owlRecord }
		err := errors.Join(json.NewDecoder(resp.Body).Decode(&page), resp.Body.Close())
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("ask Owl: %s: %v", resp.Status, err)
		}
		out = append(out, page.Items...)
		if len(page.Items) < limit {
			return out
		}
		after = page.Items[len(page.Items)-1].ID
	}
}

// effect is one line of the driver's log.
type effect struct{ ID, Effect string }

func effects(t *testing.T) (out []effect) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shared.simDir, "effects.jsonl"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var e effect
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
