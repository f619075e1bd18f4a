package owlapitest

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
)

func ruleLaws() map[string]func(*testBundle) {
	return map[string]func(*testBundle){
		"firewall rules/201 200 409 410":                   (*testBundle).ruleOutcomes,
		"firewall rules/400 names every member":            (*testBundle).ruleNamesWhatIsWrong,
		"firewall rules/cvm_id unknown 404, deleted 410":   (*testBundle).ruleNeedsItsCVM,
		"firewall rules/deleting a CVM deletes its rules":  (*testBundle).rulesGoWithTheirCVM,
		"firewall rules/GET and DELETE":                    (*testBundle).ruleReads,
		"firewall rules/active once the machine is there":  (*testBundle).ruleBecomesActive,
		"firewall rules/a hundred at once give one record": (*testBundle).aHundredRules,
	}
}

func (b *testBundle) rule(cvmID api.ID) owlapi.CreateFirewallRule {
	return owlapi.CreateFirewallRule{ID: b.mint.ID(), CVMID: cvmID, CIDR: "10.0.0.0/8"}
}

func (b *testBundle) createdRule(cvmID api.ID) owlapi.CreateFirewallRule {
	b.t.Helper()
	r := b.rule(cvmID)
	_, created, err := b.CreateFirewallRule(b.ctx, r)
	require.NoError(b.t, err)
	require.True(b.t, created)
	return r
}

func (b *testBundle) ruleOutcomes() {
	r := b.rule(b.created().ID)
	got, created, err := b.CreateFirewallRule(b.ctx, r)
	require.NoError(b.t, err)
	require.True(b.t, created)
	require.Equal(b.t, owlapi.ProtocolTCP, got.Protocol)
	require.Nil(b.t, got.Port)
	r.Protocol = owlapi.ProtocolTCP // the default spelled out
	again, created, err := b.CreateFirewallRule(b.ctx, r)
	require.NoError(b.t, err)
	require.False(b.t, created)
	require.Equal(b.t, got.CreatedAt, again.CreatedAt)

	port, other := int64(22), r
	other.Port, other.CIDR, other.Protocol = &port, "10.0.0.0/9", owlapi.ProtocolAny
	_, _, err = b.CreateFirewallRule(b.ctx, other)
	p := b.problem(err, http.StatusConflict)
	require.Equal(b.t, api.CodeIDConflict, p.ErrorCode)
	require.Equal(b.t, []string{"/cidr", "/port", "/protocol"}, fields(p))

	require.NoError(b.t, b.DeleteFirewallRule(b.ctx, r.ID))
	_, _, err = b.CreateFirewallRule(b.ctx, r)
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
}

func (b *testBundle) ruleNamesWhatIsWrong() {
	head := `{"id":"` + b.mint.ID().String() + `","cvm_id":"` + b.created().ID.String() + `",`
	for body, want := range map[string][]string{
		`{}`:                                            {"/cidr", "/cvm_id", "/id"},
		head + `"cidr":"10.0.0.1/8"}`:                   {"/cidr"},
		head + `"cidr":"10.0.0.1"}`:                     {"/cidr"},
		head + `"cidr":"::1/64"}`:                       {"/cidr"},
		head + `"cidr":"10.0.0.0/8","port":0}`:          {"/port"},
		head + `"cidr":"10.0.0.0/8","port":65536}`:      {"/port"},
		head + `"cidr":"10.0.0.0/8","protocol":"icmp"}`: {"/protocol"},
		head + `"cidr":"10.0.0.0/8","protocol":""}`:     {"/protocol"},
		head + `"cidr":"10.0.0.0/8","note":"x"}`:        {"/note"},
	} {
		p := b.rawProblem(http.MethodPost, owlapi.PathFirewallRules, body, http.StatusBadRequest)
		require.Equal(b.t, want, fields(p), body)
	}
	for _, cidr := range []string{"0.0.0.0/0", "2001:db8::/32", "192.0.2.1/32"} {
		got := b.raw(http.MethodPost, owlapi.PathFirewallRules,
			`{"id":"`+b.mint.ID().String()+`","cvm_id":"`+b.created().ID.String()+`","cidr":"`+cidr+`","port":null}`, nil)
		require.Equal(b.t, http.StatusCreated, got.status, string(got.body))
	}
}

func (b *testBundle) ruleNeedsItsCVM() {
	_, _, err := b.CreateFirewallRule(b.ctx, b.rule(b.mint.ID()))
	b.requireStatus(err, http.StatusNotFound, api.CodeNotFound)
	cvm := b.created()
	require.NoError(b.t, b.DeleteCVM(b.ctx, cvm.ID))
	_, _, err = b.CreateFirewallRule(b.ctx, b.rule(cvm.ID))
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
}

func (b *testBundle) rulesGoWithTheirCVM() {
	cvm := b.created()
	rule := b.createdRule(cvm.ID)
	require.NoError(b.t, b.DeleteCVM(b.ctx, cvm.ID))
	_, err := b.GetFirewallRule(b.ctx, rule.ID)
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
	b.requireStatus(b.DeleteFirewallRule(b.ctx, rule.ID), http.StatusGone, api.CodeResourceDeleted)
	_, _, err = b.CreateFirewallRule(b.ctx, rule)
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
	listed, err := b.FirewallRules(b.ctx, owlapi.List{IDs: []api.ID{rule.ID}})
	require.NoError(b.t, err)
	require.True(b.t, listed[0].Deleted(), "it shows in lists from the deletion on, whatever the machine still does")
}

func (b *testBundle) ruleReads() {
	rule := b.createdRule(b.created().ID)
	got, err := b.GetFirewallRule(b.ctx, rule.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, rule.CVMID, got.CVMID)
	_, err = b.GetFirewallRule(b.ctx, b.mint.ID())
	b.requireStatus(err, http.StatusNotFound, api.CodeNotFound)

	late := b.rule(rule.CVMID) // DELETE of an ID never seen is a tombstone
	require.NoError(b.t, b.DeleteFirewallRule(b.ctx, late.ID))
	b.requireStatus(b.DeleteFirewallRule(b.ctx, late.ID), http.StatusGone, api.CodeResourceDeleted)
	_, _, err = b.CreateFirewallRule(b.ctx, late)
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)

	require.NoError(b.t, b.DeleteFirewallRule(b.ctx, rule.ID))
	_, err = b.GetFirewallRule(b.ctx, rule.ID)
	var record owlapi.FirewallRule
	require.NoError(b.t, json.Unmarshal(b.problem(err, http.StatusGone).Record, &record))
	require.Equal(b.t, rule.ID, record.ID)
	listed, err := b.FirewallRules(b.ctx, owlapi.List{IDs: []api.ID{rule.ID, late.ID, b.mint.ID()}})
	require.NoError(b.t, err)
	require.Len(b.t, listed, 2, "tombstones included")
	for _, r := range listed {
		require.True(b.t, r.Deleted())
	}
	page, err := b.FirewallRules(b.ctx, owlapi.List{Limit: 1})
	require.NoError(b.t, err)
	require.Len(b.t, page, 1)
}

func (b *testBundle) ruleBecomesActive() {
	rule := b.createdRule(b.created().ID)
	ticker := time.NewTicker(lookAt)
	defer ticker.Stop()
	for limit := time.Now().Add(deadline); ; <-ticker.C {
		got, err := b.GetFirewallRule(b.ctx, rule.ID)
		require.NoError(b.t, err)
		if got.Status == owlapi.RuleActive {
			return
		}
		require.Equal(b.t, owlapi.RulePending, got.Status)
		require.True(b.t, time.Now().Before(limit), "never active")
	}
}

func (b *testBundle) aHundredRules() {
	rule := b.rule(b.created().ID)
	created := make([]bool, 100)
	together(100, func(i int) {
		var err error
		if _, created[i], err = b.CreateFirewallRule(b.ctx, rule); err != nil {
			b.t.Errorf("create: %v", err)
		}
	})
	n := 0
	for _, c := range created {
		if c {
			n++
		}
	}
	require.Equal(b.t, 1, n, "answers with 201")
}
