resource "roost_app" "web" {
  name          = "web"
  instance_type = "tdx.small"
  replicas      = 4

  docker_compose = <<-EOT
    services:
      web:
        image: nginx
        ports: ["443:443"]
  EOT

  timeouts {
    create = "20m"
  }
}
