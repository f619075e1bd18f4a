terraform {
  required_providers {
    roost = {
      source = "terraform.local/roost/roost"
    }
  }
}

# The token is better in ROOST_TOKEN than here.
provider "roost" {
  endpoint  = "http://127.0.0.1:8080"
  namespace = terraform.workspace
}
