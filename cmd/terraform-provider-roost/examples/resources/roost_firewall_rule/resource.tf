variable "web_cvm_ids" {
  type = list(string)
}

resource "roost_firewall_rule" "https" {
  count = length(var.web_cvm_ids)

  cvm_id = var.web_cvm_ids[count.index]
  cidr   = "10.0.0.0/8"
  port   = 443
}
