package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// appFields are what a list shows of an app.
type appFields struct {
	AppID     types.String `tfsdk:"app_id"`
	Name      types.String `tfsdk:"name"`
	CreatedAt types.String `tfsdk:"created_at"`
}

// oneAppFields are what roost_app shows.
type oneAppFields struct {
	appFields

	CVMIDs []string    `tfsdk:"cvm_ids"`
	CVMs   []cvmFields `tfsdk:"cvms"`
}

func appFieldsOf(a api.App) appFields {
	return appFields{
		AppID: types.StringValue(a.AppID.String()), Name: types.StringValue(a.Name), CreatedAt: types.StringValue(a.CreatedAt.String()),
	}
}

// appSource is the data source roost_app.
type appSource struct{ source }

func newAppSource() datasource.DataSource { return &appSource{source{name: "roost_app"}} }

// Schema implements datasource.DataSource.
func (s *appSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	each := cvmAttributes()
	each["cvm_id"] = cvmIDAttribute()
	resp.Schema = schema.Schema{
		MarkdownDescription: "One app and its CVMs, by its ID or by its name.",
		Attributes: map[string]schema.Attribute{
			"app_id": schema.StringAttribute{
				Optional: true, Computed: true, MarkdownDescription: "ID of the app.",
				Validators: []validator.String{uuid{}, stringvalidator.ExactlyOneOf(path.MatchRoot("app_id"), path.MatchRoot("name"))},
			},
			"name":       schema.StringAttribute{Optional: true, Computed: true, MarkdownDescription: "Its name. Not beside `app_id`."},
			"created_at": schema.StringAttribute{Computed: true, MarkdownDescription: "When it was made, RFC 3339."},
			"cvm_ids":    schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "IDs of its CVMs, oldest first."},
			"cvms": schema.ListNestedAttribute{
				Computed: true, NestedObject: schema.NestedAttributeObject{Attributes: each},
				MarkdownDescription: "Its CVMs, oldest first, those on their way out left out.",
			},
		},
	}
}

// Read implements datasource.DataSource.
func (s *appSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var id, name types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("app_id"), &id)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("name"), &name)...)
	if resp.Diagnostics.HasError() {
		return
	}
	found, err := s.findApp(ctx, id.ValueString()+name.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("The app cannot be read", err.Error())
		return
	}
	f, err := s.fleetOf(ctx, found.AppID)
	if err != nil {
		resp.Diagnostics.AddError("The app cannot be read", err.Error())
		return
	}
	out := oneAppFields{appFields: appFieldsOf(found), CVMIDs: []string{}, CVMs: []cvmFields{}}
	for _, c := range f {
		out.CVMIDs, out.CVMs = append(out.CVMIDs, c.VMUUID.String()), append(out.CVMs, fieldsOf(c))
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, out)...)
}

// findApp reads an app by its ID or, if that is none, by its name.
func (p *platform) findApp(ctx context.Context, idOrName string) (api.App, error) {
	if id, err := api.ParseAppID(idOrName); err == nil {
		return p.App(ctx, id) //nolint:wrapcheck // the error says it all
	}
	for a, err := range p.Apps(ctx) {
		if err != nil {
			return api.App{}, fmt.Errorf("list apps: %w", err)
		}
		if a.Name == idOrName {
			return a, nil
		}
	}
	return api.App{}, fmt.Errorf("the workspace has no app named %q", idOrName)
}

// appsSource is the data source roost_apps.
type appsSource struct{ source }

func newAppsSource() datasource.DataSource { return &appsSource{source{name: "roost_apps"}} }

// Schema implements datasource.DataSource.
func (s *appsSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "The apps of the Roost workspace.",
		Attributes: map[string]schema.Attribute{
			"apps": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "The apps.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"app_id":     schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the app."},
					"name":       schema.StringAttribute{Computed: true, MarkdownDescription: "Its name."},
					"created_at": schema.StringAttribute{Computed: true, MarkdownDescription: "When it was made, RFC 3339."},
				}},
			},
		},
	}
}

// Read implements datasource.DataSource.
func (s *appsSource) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	out := []appFields{}
	for a, err := range s.Apps(ctx) {
		if err != nil {
			resp.Diagnostics.AddError("The apps cannot be listed", err.Error())
			return
		}
		out = append(out, appFieldsOf(a))
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("apps"), out)...)
}
