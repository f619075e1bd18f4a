resource "roost_app" "batch" {
  name           = "batch"
  instance_type  = "tdx.large"
  docker_compose = "services: {job: {image: batch}}"
}

resource "roost_cvm_power" "batch" {
  cvm_id = roost_app.batch.primary_cvm_id
  state  = "stopped"
}
