package modeltest

import "net/http"

// decide is what a request that no key answers is allowed to be told.
func (m *Model) decide(r Request) []outcome {
	switch r.Do {
	case "create":
		return m.create(r)
	case "scale":
		return m.scale(r)
	case "delete":
		return m.remove(m.find(r.CVM))
	}
	c := m.find(r.CVM)
	if c.Deleting {
		return []outcome{refused(http.StatusGone, "RESOURCE_DELETED")}
	}
	if r.Do == "replicate" {
		return m.grow(CVM{App: c.App, VCPU: c.VCPU}, max(r.Count, 1))
	}
	return m.change(c, r)
}

func (m *Model) create(r Request) []outcome {
	for _, c := range m.live(r.App) {
		if c.Primary && c.VCPU == r.VCPU {
			o := accepted(c.create, c.ID)
			o.Replayed = true
			return []outcome{o}
		}
		if c.Primary {
			return []outcome{refused(http.StatusConflict, "APP_EXISTS")}
		}
	}
	return m.grow(CVM{App: r.App, Primary: true, VCPU: r.VCPU}, 1)
}

// grow makes n CVMs like this one.
func (m *Model) grow(like CVM, n int) []outcome {
	if m.Quota()+n > m.Max {
		return []outcome{refused(http.StatusForbidden, "QUOTA_EXCEEDED")}
	}
	o := accepted("")
	o.fresh = n
	o.apply = func(a Answer) {
		m.open(a.Operation, a.CVMs...)
		for _, id := range a.CVMs {
			c := like
			c.ID, c.Generation, c.Newest, c.create = id, 1, a.Operation, a.Operation
			m.CVMs = append(m.CVMs, &c)
		}
	}
	return []outcome{o}
}

func (m *Model) scale(r Request) []outcome {
	live := m.live(r.App)
	switch have := len(live); {
	case have == 0: // all are being deleted, or gone by now
		return []outcome{refused(http.StatusBadRequest, "INVALID_STATE"), refused(http.StatusNotFound, "RESOURCE_DELETED")}
	case have < r.Count:
		return m.grow(CVM{App: r.App, VCPU: live[0].VCPU}, r.Count-have)
	default:
		var ids []string
		for _, c := range live[r.Count:] {
			ids = append(ids, c.ID)
		}
		o := accepted("", ids...)
		o.apply = func(a Answer) { m.delete(a.Operation, ids...) }
		return []outcome{o}
	}
}

func (m *Model) change(c *CVM, r Request) []outcome {
	stopped, vcpu := c.Stopped && r.Do == "patch" || r.Do == "stop", c.VCPU
	if r.Do == "patch" {
		vcpu = r.VCPU
	}
	fresh := accepted("", c.ID)
	if r.Do != "restart" && stopped == c.Stopped && vcpu == c.VCPU {
		// The operation under way or, if none, a new one already succeeded.
		fresh.apply = func(a Answer) {
			m.open(a.Operation)
			m.Operations[a.Operation].Ended = "succeeded"
			c.Newest = a.Operation
		}
		if m.Operations[c.Newest].Ended != "" {
			return []outcome{fresh}
		}
		return []outcome{accepted(c.Newest, c.ID), fresh}
	}
	fresh.apply = func(a Answer) {
		if r.Do != "patch" {
			m.supersede(c, a.Operation, reverses(r.Do))
		}
		m.open(a.Operation, c.ID)
		m.Operations[a.Operation].does, m.Operations[a.Operation].of = r.Do, c.ID
		c.Stopped, c.VCPU, c.Newest = stopped, vcpu, a.Operation
		c.Generation++
	}
	return []outcome{fresh}
}

// reverses is the kinds of operation whose power a request reverses.
func reverses(do string) func(kind string) bool {
	if do == "stop" {
		return func(kind string) bool { return kind == "start" || kind == "restart" }
	}
	return func(kind string) bool { return kind == "stop" }
}

func (m *Model) remove(c *CVM) []outcome {
	if c.Deleting {
		return []outcome{accepted(c.Newest, c.ID), refused(http.StatusGone, "RESOURCE_DELETED")}
	}
	o := accepted("", c.ID)
	o.apply = func(a Answer) { m.delete(a.Operation, c.ID) }
	return []outcome{o}
}

func (m *Model) delete(operation string, ids ...string) {
	for _, id := range ids {
		c := m.find(id)
		m.supersede(c, operation, func(string) bool { return true })
		c.Deleting, c.Newest = true, operation
		c.Generation++
	}
	m.open(operation, ids...)
}

// supersede lets an operation take the place of others for one CVM. Those
// that had ended before stay as they are; the model cannot know which had.
func (m *Model) supersede(c *CVM, by string, kind func(string) bool) {
	for _, op := range m.Operations {
		for i, id := range op.Open {
			if id == c.ID && kind(op.does) {
				op.Open = append(op.Open[:i:i], op.Open[i+1:]...)
				op.By = append(op.By, by)
				break
			}
		}
	}
}

func (m *Model) open(operation string, cvms ...string) {
	if m.Operations == nil {
		m.Operations = map[string]*Operation{}
	}
	m.Operations[operation] = &Operation{ID: operation, Open: cvms}
}
