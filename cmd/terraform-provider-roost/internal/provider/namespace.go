package provider

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/types"
)

// defaultWorkspace is Terraform's name for the workspace that is always there.
const defaultWorkspace = "default"

// namespaceOf is the attribute, the environment's, or the Terraform workspace.
func namespaceOf(value types.String) string {
	if value.ValueString() != "" {
		return value.ValueString()
	}
	if v := os.Getenv(EnvNamespace); v != "" {
		return v
	}
	return terraformWorkspace()
}

// terraformWorkspace finds the selected workspace where Terraform itself looks
// for it: the protocol does not tell providers. A provider runs in the root
// module's directory with Terraform's environment.
func terraformWorkspace() string {
	if name := os.Getenv("TF_WORKSPACE"); name != "" {
		return name
	}
	dir := os.Getenv("TF_DATA_DIR")
	if dir == "" {
		dir = ".terraform"
	}
	text, err := os.ReadFile(filepath.Join(dir, "environment")) //nolint:gosec // Terraform's own file
	if name := strings.TrimSpace(string(text)); err == nil && name != "" {
		return name
	}
	return defaultWorkspace
}
