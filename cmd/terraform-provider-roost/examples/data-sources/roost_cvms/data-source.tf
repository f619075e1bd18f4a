data "roost_app" "web" {
  name = "web"
}

data "roost_cvms" "web" {
  app_id = data.roost_app.web.app_id
}

output "failed" {
  value = [for c in data.roost_cvms.web.cvms : c.cvm_id if c.status == "failed"]
}
