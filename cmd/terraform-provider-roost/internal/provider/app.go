package provider

import (
	"context"
	"fmt"
	"maps"
	"regexp"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// app is the resource roost_app.
type app struct{ *platform }

// appType names the resource, also in keys.
const appType = "roost_app"

func newApp() resource.Resource { return &app{} }

// appModel is its state.
type appModel struct {
	ID            types.String   `tfsdk:"id"`
	AppID         types.String   `tfsdk:"app_id"`
	Name          types.String   `tfsdk:"name"`
	InstanceType  types.String   `tfsdk:"instance_type"`
	DockerCompose types.String   `tfsdk:"docker_compose"`
	Image         types.String   `tfsdk:"image"`
	Region        types.String   `tfsdk:"region"`
	DiskSize      types.Int64    `tfsdk:"disk_size"`
	VCPU          types.Int64    `tfsdk:"vcpu"`
	Memory        types.Int64    `tfsdk:"memory"`
	StorageFS     types.String   `tfsdk:"storage_fs"`
	Listed        types.Bool     `tfsdk:"listed"`
	EncryptedEnv  types.String   `tfsdk:"encrypted_env"`
	EnvKeys       types.List     `tfsdk:"env_keys"`
	Replicas      types.Int64    `tfsdk:"replicas"`
	WaitForReady  types.Bool     `tfsdk:"wait_for_ready"`
	PrimaryCVMID  types.String   `tfsdk:"primary_cvm_id"`
	CVMIDs        types.List     `tfsdk:"cvm_ids"`
	DeadCVMIDs    types.List     `tfsdk:"dead_cvm_ids"`
	EnvPubkey     types.String   `tfsdk:"encrypted_env_pubkey"`
	ComposeHash   types.String   `tfsdk:"compose_hash"`
	Status        types.String   `tfsdk:"status"`
	Uniform       types.Bool     `tfsdk:"uniform"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

// Metadata implements resource.Resource.
func (r *app) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = appType
}

// Configure implements resource.ResourceWithConfigure.
func (r *app) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.platform = platformOf(req.ProviderData, &resp.Diagnostics)
}

// Schema implements resource.Resource.
func (r *app) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "An app and the CVMs that run it, all with the same configuration.\n\n" +
			"A change of what is marked *in place* changes the CVMs that there are (they restart); anything else replaces them all. " +
			"What was changed, stopped being there or was added outside of Terraform shows in the next plan.\n\n" +
			"A CVM that has failed shows as a warning in every plan. If it has no machine, because that was deleted below Roost or never " +
			"came up, the plan is to delete it and to make another (`dead_cvm_ids`). If its machine may hold data, it is left to you. " +
			"A *create* in which a CVM fails is tainted, as always with Terraform, and the next apply replaces the whole app: " +
			"`terraform untaint` before it, and it replaces that CVM alone.",
		Attributes: map[string]schema.Attribute{},
		Blocks: map[string]schema.Block{
			"timeouts": timeouts.Block(ctx, timeouts.Opts{Create: true, Update: true, Delete: true}),
		},
	}
	for _, group := range []map[string]schema.Attribute{appSpecAttributes(), appFixedAttributes(), appFleetAttributes(), appComputedAttributes()} {
		maps.Copy(resp.Schema.Attributes, group)
	}
}

// maxAppNameBytes leaves room for the number of a replica in its name.
const maxAppNameBytes = api.MaxNameBytes - len("-9999")

// appSpecAttributes are changed in place.
func appSpecAttributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"instance_type": schema.StringAttribute{
			Required:            true,
			MarkdownDescription: "Size of each CVM, such as `tdx.small`. In place.",
		},
		"docker_compose": schema.StringAttribute{
			Required:            true,
			Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			MarkdownDescription: "The compose file that each CVM runs. In place.",
		},
		"image": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			MarkdownDescription: "Guest image. Default: the server's. In place.",
		},
		"disk_size": schema.Int64Attribute{
			Optional: true, Computed: true,
			PlanModifiers:       []planmodifier.Int64{int64planmodifier.UseStateForUnknown()},
			MarkdownDescription: "Disk of each CVM in GB; it can only grow. Default: that of the first `instance_type`. In place.",
		},
		"vcpu": schema.Int64Attribute{
			Optional: true, Computed: true,
			MarkdownDescription: "Virtual CPUs of each CVM. Default: those of the `instance_type`. In place.",
		},
		"memory": schema.Int64Attribute{
			Optional: true, Computed: true,
			MarkdownDescription: "Memory of each CVM in MB. Default: that of the `instance_type`. In place.",
		},
		"encrypted_env": schema.StringAttribute{
			Optional: true, Computed: true, Sensitive: true,
			Validators:    []validator.String{stringvalidator.LengthAtLeast(1)},
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			MarkdownDescription: "The environment, encrypted for `encrypted_env_pubkey`, in hex. In place. Whoever encrypts gets another " +
				"ciphertext each time, and another one is another environment, so encrypt when a value changes and not in the configuration. " +
				"Roost never shows it: what others have set shows in no plan, and without this attribute it stays.",
		},
		"env_keys": schema.ListAttribute{
			Optional: true, Computed: true, Sensitive: true, ElementType: types.StringType,
			Validators:          []validator.List{listvalidator.SizeBetween(1, api.MaxEnvKeys)},
			PlanModifiers:       []planmodifier.List{listplanmodifier.UseStateForUnknown()},
			MarkdownDescription: "Names of the variables in `encrypted_env`. In place. As with `encrypted_env`, Roost shows them to nobody.",
		},
	}
}

// appFixedAttributes replace the app when they change.
func appFixedAttributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"name": schema.StringAttribute{
			Required:      true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			Validators: []validator.String{stringvalidator.RegexMatches(
				regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9._-]{1,%d}$`, maxAppNameBytes)),
				fmt.Sprintf("must be 1 to %d of A-Z a-z 0-9 . _ -", maxAppNameBytes))},
			MarkdownDescription: "Name of the app; a Roost workspace has one app per name. Replicas are named after it: `NAME-2` and so on.",
		},
		"region": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace(), stringplanmodifier.UseStateForUnknown()},
			MarkdownDescription: "Where the CVMs run. Default: the server's.",
		},
		"storage_fs": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace(), stringplanmodifier.UseStateForUnknown()},
			MarkdownDescription: "File system of the disk. Default: the server's.",
		},
		"listed": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(false),
			PlanModifiers:       []planmodifier.Bool{boolplanmodifier.RequiresReplace()},
			MarkdownDescription: "Whether the app is shown to others. Default: `false`.",
		},
	}
}

func appFleetAttributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"replicas": schema.Int64Attribute{
			Optional: true, Computed: true, Default: int64default.StaticInt64(1),
			Validators: []validator.Int64{int64validator.Between(1, maxReplicas)},
			MarkdownDescription: "How many CVMs there are to be, the first included. Default: 1. In place: more are copies of the " +
				"oldest; of too many the newest go first. Those in `dead_cvm_ids` are not counted.",
		},
		"wait_for_ready": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(true),
			MarkdownDescription: "Whether an apply waits until every CVM is what it was asked to be, and fails if one fails. Default: `true`. " +
				"A wait that takes too long is a warning: nothing is lost. Where an apply ended before a CVM was ready, the next one waits for it.",
		},
	}
}

func appComputedAttributes() map[string]schema.Attribute {
	keep := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	return map[string]schema.Attribute{
		"id": schema.StringAttribute{
			Computed: true, PlanModifiers: keep, MarkdownDescription: "The same as `app_id`.",
		},
		"app_id": schema.StringAttribute{
			Computed: true, PlanModifiers: keep, MarkdownDescription: "ID of the app.",
		},
		"primary_cvm_id": schema.StringAttribute{
			Computed: true, PlanModifiers: keep, MarkdownDescription: "ID of the oldest CVM.",
		},
		"cvm_ids": schema.ListAttribute{
			Computed: true, ElementType: types.StringType,
			MarkdownDescription: "IDs of the CVMs, oldest first, without those in `dead_cvm_ids`.",
		},
		"dead_cvm_ids": schema.ListAttribute{
			Computed: true, ElementType: types.StringType,
			MarkdownDescription: "IDs of the CVMs that have failed and have no machine: it was deleted below Roost, or never came up. " +
				"An update deletes them and makes others in their place.",
		},
		"encrypted_env_pubkey": schema.StringAttribute{
			Computed: true, PlanModifiers: keep,
			MarkdownDescription: "X25519 public key, in hex, that `encrypted_env` is encrypted for. An app of this name keeps it for ever, also when it is destroyed and made again.",
		},
		"uniform": schema.BoolAttribute{
			Computed: true, MarkdownDescription: "Whether all CVMs have the same size, image and compose file. An update makes them so, also one that was cut off before.",
		},
		"compose_hash": schema.StringAttribute{
			Computed: true, MarkdownDescription: "SHA-256 of the whole configuration of the oldest CVM.",
		},
		"status": schema.StringAttribute{
			Computed: true, MarkdownDescription: "Status of the CVMs: `failed` if one has failed, else that of one that is under way, else that of the oldest.",
		},
	}
}

// maxReplicas bounds an app. The server's own limit is the workspace's quota.
const maxReplicas = 1000
