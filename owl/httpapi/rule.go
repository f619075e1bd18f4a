package httpapi

import (
	"github.com/gin-gonic/gin"

	"roost/api/owlapi"
	"roost/api/wire"
)

func (s *server) createFirewallRule(c *gin.Context) error {
	var body owlapi.CreateFirewallRuleBody
	if err := wire.Decode(c, limits(), &body); err != nil {
		return err
	}
	note(c, "firewall_rule_id", body.ID)
	note(c, "cvm_id", body.CVMID)

	ctx, cancel := work(c)
	defer cancel()
	made, err := s.resources.CreateFirewallRule(ctx, body.Request())
	if err != nil {
		return err
	}
	return answerInsertion(c, s, "firewall_rule", made)
}

func (s *server) getFirewallRule(c *gin.Context) error {
	return get(c, "firewall_rule_id", s.resources.FirewallRule)
}

func (s *server) deleteFirewallRule(c *gin.Context) error {
	return remove(c, "firewall_rule_id", s.resources.DeleteFirewallRule)
}

func (s *server) listFirewallRules(c *gin.Context) error {
	return list(c, s.resources.FirewallRules)
}
