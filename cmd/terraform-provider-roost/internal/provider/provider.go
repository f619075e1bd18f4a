package provider

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api/client"
)

// Address is where configurations find the provider: source =
// "terraform.local/roost/roost". It is published nowhere.
const Address = "terraform.local/roost/roost"

// The environment variables that stand in for attributes that are not set.
const (
	EnvEndpoint    = "ROOST_ENDPOINT"
	EnvToken       = "ROOST_TOKEN"
	EnvNamespace   = "ROOST_NAMESPACE"
	EnvMaxAttempts = "ROOST_MAX_ATTEMPTS"
)

// Provider is the provider named roost.
type Provider struct{ version string }

// New returns what makes a Provider of a version.
func New(version string) func() provider.Provider {
	return func() provider.Provider { return &Provider{version: version} }
}

// Metadata implements provider.Provider.
func (p *Provider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = "roost", p.version
}

// Schema implements provider.Provider.
func (p *Provider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Runs confidential VMs (CVMs) on Roost. Every request that makes or " +
			"changes something carries an `Idempotency-Key` that follows from what is planned, so an apply that was killed, or " +
			"whose answers were lost, ends by being repeated.",
		Attributes: map[string]schema.Attribute{
			"endpoint": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Address of Platform, such as `http://127.0.0.1:8080`, with or without `/api/v1`. Default: `" + EnvEndpoint + "`.",
			},
			"token": schema.StringAttribute{
				Optional: true, Sensitive: true,
				MarkdownDescription: "API token of a Roost workspace, with scope `write`. Default: `" + EnvToken + "`.",
			},
			"namespace": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Keeps configurations apart that use the same names in one Roost workspace: requests of " +
					"different namespaces have different keys. It must stay the same from an apply to its repetition. Default: `" +
					EnvNamespace + "`, else the selected Terraform workspace as far as a provider can see it (`TF_WORKSPACE`, then the file " +
					"`environment` in Terraform's data directory, then `default`). With a remote backend, or if in doubt, set it: " +
					"`namespace = terraform.workspace`.",
			},
			"max_attempts": schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "How often one request is sent at most before the apply fails. Default: `" + EnvMaxAttempts +
					"`, else as often as fits into two minutes.",
			},
		},
	}
}

// config is the provider block.
type config struct {
	Endpoint    types.String `tfsdk:"endpoint"`
	Token       types.String `tfsdk:"token"`
	Namespace   types.String `tfsdk:"namespace"`
	MaxAttempts types.Int64  `tfsdk:"max_attempts"`
}

// platform is what resources and data sources work with.
type platform struct {
	*client.Client

	namespace string
}

// Configure implements provider.Provider. It makes no request.
func (p *Provider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var cfg config
	resp.Diagnostics.Append(req.Config.Get(ctx, &cfg)...)
	if cfg.Endpoint.IsUnknown() || cfg.Token.IsUnknown() || cfg.Namespace.IsUnknown() || cfg.MaxAttempts.IsUnknown() {
		resp.Diagnostics.AddError("The provider's configuration is not known yet",
			"It depends on something that an apply has yet to make. Make that first (terraform apply -target=…), or write the value down.")
	}
	if resp.Diagnostics.HasError() {
		return
	}
	attempts := maxAttempts(cfg.MaxAttempts, &resp.Diagnostics)
	settings := client.Config{
		Endpoint:  orEnv(cfg.Endpoint, EnvEndpoint, "endpoint", &resp.Diagnostics),
		Token:     orEnv(cfg.Token, EnvToken, "token", &resp.Diagnostics),
		Logger:    slog.New(logHandler{}),
		UserAgent: "terraform-provider-roost/" + p.version + " terraform/" + req.TerraformVersion,
		Retry:     client.Retry{MaxAttempts: attempts},
	}
	if attempts == 1 {
		settings.HTTPClient = client.NewHTTPClient()
		oneMeansOne(settings.HTTPClient)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	c, err := client.New(settings)
	if err != nil {
		resp.Diagnostics.AddError("The provider's configuration is wrong", err.Error())
		return
	}
	data := &platform{Client: c, namespace: namespaceOf(cfg.Namespace)}
	resp.ResourceData, resp.DataSourceData = data, data
}

// orEnv is an attribute, or the variable that stands in for it.
func orEnv(value types.String, variable, attribute string, diags *diag.Diagnostics) string {
	if value.ValueString() != "" {
		return value.ValueString()
	}
	if v := os.Getenv(variable); v != "" {
		return v
	}
	diags.AddAttributeError(path.Root(attribute), "The provider needs "+attribute,
		fmt.Sprintf("Set %s in the provider block, or the environment variable %s.", attribute, variable))
	return ""
}

func maxAttempts(value types.Int64, diags *diag.Diagnostics) int {
	n, err := value.ValueInt64(), error(nil)
	if v := os.Getenv(EnvMaxAttempts); value.IsNull() && v != "" {
		n, err = strconv.ParseInt(v, 10, 32)
	}
	if err != nil || n < 0 {
		diags.AddAttributeError(path.Root("max_attempts"), "max_attempts is wrong", "It must be a number, 0 or more; 0 is the default.")
	}
	return int(n)
}

// Resources implements provider.Provider.
func (p *Provider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{newApp, newPower, newRule}
}

// DataSources implements provider.Provider.
func (p *Provider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{newAppSource, newAppsSource, newCVMSource, newCVMsSource}
}

// platformOf is what Configure left, nil before it ran.
func platformOf(data any, diags *diag.Diagnostics) *platform {
	if data == nil {
		return nil
	}
	p, ok := data.(*platform)
	if !ok {
		diags.AddError("The provider is broken", fmt.Sprintf("Its data is a %T. Please report this.", data))
	}
	return p
}
