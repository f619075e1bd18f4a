terraform import 'roost_firewall_rule.https[0]' CVM_ID/RULE_ID
