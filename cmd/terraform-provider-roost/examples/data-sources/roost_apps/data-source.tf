data "roost_apps" "all" {}

output "app_names" {
  value = data.roost_apps.all.apps[*].name
}
