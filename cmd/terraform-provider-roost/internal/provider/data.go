package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// source is what all data sources are: a name, and the provider's platform.
type source struct {
	*platform

	name string
}

// Metadata implements datasource.DataSource.
func (s *source) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = s.name
}

// Configure implements datasource.DataSourceWithConfigure.
func (s *source) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	s.platform = platformOf(req.ProviderData, &resp.Diagnostics)
}

// cvmFields are what a data source shows of a CVM.
type cvmFields struct {
	CVMID        types.String `tfsdk:"cvm_id"`
	AppID        types.String `tfsdk:"app_id"`
	Name         types.String `tfsdk:"name"`
	ReplicaOf    types.String `tfsdk:"replica_of"`
	Status       types.String `tfsdk:"status"`
	InstanceType types.String `tfsdk:"instance_type"`
	VCPU         types.Int64  `tfsdk:"vcpu"`
	Memory       types.Int64  `tfsdk:"memory"`
	DiskSize     types.Int64  `tfsdk:"disk_size"`
	Image        types.String `tfsdk:"image"`
	Region       types.String `tfsdk:"region"`
	ComposeHash  types.String `tfsdk:"compose_hash"`
	CreatedAt    types.String `tfsdk:"created_at"`
}

func fieldsOf(c api.CVM) cvmFields {
	out := cvmFields{
		CVMID: types.StringValue(c.VMUUID.String()), AppID: types.StringValue(c.AppID.String()), Name: types.StringValue(c.Name),
		Status: types.StringValue(string(c.Status)), InstanceType: types.StringValue(c.InstanceType),
		VCPU: types.Int64Value(c.VCPU), Memory: types.Int64Value(c.Memory), DiskSize: types.Int64Value(c.DiskSize),
		Image: types.StringValue(c.BaseImage), Region: types.StringValue(c.Region), ComposeHash: types.StringValue(c.ComposeHash),
		CreatedAt: types.StringValue(c.CreatedAt.String()),
	}
	if c.ReplicaOf != nil {
		out.ReplicaOf = types.StringValue(c.ReplicaOf.String())
	}
	return out
}

// cvmAttributes describe cvmFields, without the ID.
func cvmAttributes() map[string]schema.Attribute {
	text := func(description string) schema.Attribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	number := func(description string) schema.Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: description}
	}
	return map[string]schema.Attribute{
		"app_id":        text("ID of its app."),
		"name":          text("Its name."),
		"replica_of":    text("ID of the CVM that it was copied from; null for the first one."),
		"status":        text("`provisioning`, `starting`, `running`, `stopping`, `stopped`, `restarting`, `updating`, `deleting` or `failed`."),
		"instance_type": text("Its size."),
		"vcpu":          number("Virtual CPUs."),
		"memory":        number("Memory in MB."),
		"disk_size":     number("Disk in GB."),
		"image":         text("Guest image."),
		"region":        text("Where it runs."),
		"compose_hash":  text("SHA-256 of its whole configuration."),
		"created_at":    text("When it was accepted, RFC 3339."),
	}
}

// cvmIDAttribute is the ID inside a list.
func cvmIDAttribute() schema.Attribute {
	return schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the CVM."}
}
