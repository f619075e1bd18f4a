package httpapi

import (
	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/wire"
)

func (s *server) createFirewallRule(c *gin.Context) error {
	var req api.CreateFirewallRule
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	if err != nil {
		return err
	}
	a, err := s.fleet.CreateFirewallRule(c.Request.Context(), call, ids[0], req)
	return answer(c, a, err)
}

func (s *server) listFirewallRules(c *gin.Context) error {
	id, err := wire.Path(c, "vm_uuid")
	if err != nil {
		return err
	}
	p, err := page(c)
	if err != nil {
		return err
	}
	rules, err := s.fleet.FirewallRules(c.Request.Context(), workspaceOf(c), id, p)
	return read(c, rules, err)
}

func (s *server) getFirewallRule(c *gin.Context) error {
	_, ids, err := callOf(c, "", []string{"vm_uuid", "id"})
	if err != nil {
		return err
	}
	rule, err := s.fleet.FirewallRule(c.Request.Context(), workspaceOf(c), ids[0], ids[1])
	return read(c, rule, err)
}

func (s *server) deleteFirewallRule(c *gin.Context) error {
	call, ids, err := s.deletion(c, "vm_uuid", "id")
	if err != nil {
		return err
	}
	a, err := s.fleet.DeleteFirewallRule(c.Request.Context(), call, ids[0], ids[1])
	return answer(c, a, err)
}
