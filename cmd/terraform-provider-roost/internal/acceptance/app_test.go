package acceptance

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"roost/cmd/terraform-provider-roost/internal/provider"
)

// inProcess are the providers of a test that runs them here.
func inProcess() map[string]func() (tfprotov6.ProviderServer, error) {
	return map[string]func() (tfprotov6.ProviderServer, error){
		"roost": providerserver.NewProtocol6WithError(provider.New("test")()),
	}
}

// providerBlock points at the shared stack.
func providerBlock() string {
	return fmt.Sprintf("provider \"roost\" {\n  endpoint = %q\n  token = %q\n}\n", shared.platform, shared.token)
}

// appBlock is a roost_app named web with attributes.
func appBlock(name, attributes string) string {
	return providerBlock() + fmt.Sprintf(`
resource "roost_app" "web" {
  name           = %q
  docker_compose = "services: {web: {image: nginx}}"
  %s
}
`, name, attributes)
}

func TestAppLifecycle(t *testing.T) {
	t.Parallel()
	const web = "roost_app.web"
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: inProcess(),
		Steps: []resource.TestStep{
			{
				Config: appBlock("life", `instance_type = "tdx.small"`),
				Check: resource.ComposeAggregateTestCheckFunc(
					resource.TestCheckResourceAttr(web, "status", "running"),
					resource.TestCheckResourceAttr(web, "replicas", "1"),
					resource.TestCheckResourceAttr(web, "vcpu", "1"),
					resource.TestCheckResourceAttrPair(web, "primary_cvm_id", web, "cvm_ids.0"),
				),
			},
			{
				Config: appBlock("life", "instance_type = \"tdx.medium\"\n  replicas = 3"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(web, plancheck.ResourceActionUpdate),
				}},
				Check: resource.ComposeAggregateTestCheckFunc(
					resource.TestCheckResourceAttr(web, "vcpu", "2"),
					resource.TestCheckResourceAttr(web, "disk_size", "20"),
					resource.TestCheckResourceAttr(web, "cvm_ids.#", "3"),
				),
			},
			{Config: appBlock("life", "instance_type = \"tdx.medium\"\n  replicas = 2"), Check: resource.TestCheckResourceAttr(web, "cvm_ids.#", "2")},
			{ResourceName: web, ImportState: true, ImportStateVerify: true},
			{ResourceName: web, ImportState: true, ImportStateVerify: true, ImportStateId: "life"},
		},
	})
}
