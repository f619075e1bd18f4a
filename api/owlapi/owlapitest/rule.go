package owlapitest

import (
	"net/http"

	"roost/api"
	"roost/api/jsondiff"
	"roost/api/owlapi"
)

// rule is one record and what the fake knows besides.
type rule struct {
	owlapi.FirewallRule

	digests map[string]string // of the create request
	dead    bool
}

func (r *rule) bury(at api.Time) {
	if !r.dead {
		r.dead, r.DeletedAt, r.UpdatedAt = true, &at, at
	}
}

// ForgetRule loses a rule, as a restored database would.
func (f *Fake) ForgetRule(id api.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.rules, id)
}

// settleRule puts a rule in force once its machine is there.
func (f *Fake) settleRule(r *rule) *rule {
	if c, ok := f.cvms[r.CVMID]; ok && f.settle(c).ObservedGeneration > 0 && r.Status == owlapi.RulePending {
		r.Status, r.UpdatedAt = owlapi.RuleActive, f.now()
	}
	return r
}

func (f *Fake) createRule(c *call) (status int, value any, err error) {
	var body owlapi.CreateFirewallRuleBody
	if err := c.decode(owlapi.MaxBodyBytes, &body); err != nil {
		return 0, nil, err
	}
	request := body.Request()
	digests, err := createDigests(request)
	if err != nil {
		return 0, nil, err
	}
	if existing, ok := f.rules[request.ID]; ok {
		if existing.dead {
			return 0, nil, gone(request.ID, existing.DeletedAt, existing.FirewallRule)
		}
		if fields := jsondiff.Diff(existing.digests, digests); len(fields) > 0 {
			return 0, nil, conflict(request.ID, fields)
		}
		return http.StatusOK, f.settleRule(existing).FirewallRule, nil
	}
	if _, err := f.live(request.CVMID); err != nil {
		return 0, nil, err
	}
	at := f.now()
	made := &rule{digests: digests, FirewallRule: owlapi.FirewallRule{
		ID: request.ID, CVMID: request.CVMID, CIDR: request.CIDR, Protocol: request.Protocol, Port: request.Port,
		Status: owlapi.RulePending, CreatedAt: at, UpdatedAt: at,
	}}
	f.rules[request.ID] = made
	return http.StatusCreated, made.FirewallRule, nil
}

func (f *Fake) getRule(c *call) (status int, value any, err error) {
	r, ok := f.rules[c.id]
	switch {
	case !ok:
		return 0, nil, neverSeen(c.id)
	case r.dead:
		return 0, nil, gone(c.id, r.DeletedAt, r.FirewallRule)
	}
	return http.StatusOK, f.settleRule(r).FirewallRule, nil
}

func (f *Fake) deleteRule(c *call) (status int, value any, err error) {
	at := f.now()
	r, ok := f.rules[c.id]
	if ok && r.dead {
		return 0, nil, gone(c.id, r.DeletedAt, r.FirewallRule)
	}
	if !ok {
		r = &rule{FirewallRule: owlapi.FirewallRule{ID: c.id, CreatedAt: at}}
		f.rules[c.id] = r
	}
	r.bury(at)
	return http.StatusNoContent, nil, nil
}

func (f *Fake) listRules(c *call) (status int, value any, err error) {
	rows, _, err := list(c, f.rules)
	if err != nil {
		return 0, nil, err
	}
	page := owlapi.Items[owlapi.FirewallRule]{Items: []owlapi.FirewallRule{}}
	for _, row := range rows {
		page.Items = append(page.Items, f.settleRule(row).FirewallRule)
	}
	return http.StatusOK, page, nil
}
