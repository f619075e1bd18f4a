data "roost_app" "web" {
  name = "web"
}

data "roost_cvm" "oldest" {
  cvm_id = data.roost_app.web.cvm_ids[0]
}

output "status" {
  value = data.roost_cvm.oldest.status
}
