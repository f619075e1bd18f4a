data "roost_app" "web" {
  name = "web"
}

output "web_cvm_ids" {
  value = data.roost_app.web.cvm_ids
}
