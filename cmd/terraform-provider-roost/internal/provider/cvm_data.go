package provider

import (
	"context"
	"maps"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// cvmSource is the data source roost_cvm.
type cvmSource struct{ source }

func newCVMSource() datasource.DataSource { return &cvmSource{source{name: "roost_cvm"}} }

// Schema implements datasource.DataSource.
func (s *cvmSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{MarkdownDescription: "One CVM.", Attributes: cvmAttributes()}
	resp.Schema.Attributes["cvm_id"] = schema.StringAttribute{
		Required: true, Validators: []validator.String{uuid{}}, MarkdownDescription: "ID of the CVM.",
	}
}

// Read implements datasource.DataSource.
func (s *cvmSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var id types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("cvm_id"), &id)...)
	cvmID, err := api.ParseID(id.ValueString())
	if err != nil || resp.Diagnostics.HasError() {
		return // the validator has said so
	}
	cvm, err := s.CVM(ctx, cvmID)
	if err != nil {
		resp.Diagnostics.AddError("The CVM cannot be read", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, fieldsOf(cvm))...)
}

// cvmsSource is the data source roost_cvms.
type cvmsSource struct{ source }

func newCVMsSource() datasource.DataSource { return &cvmsSource{source{name: "roost_cvms"}} }

// Schema implements datasource.DataSource.
func (s *cvmsSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	each := cvmAttributes()
	each["cvm_id"] = cvmIDAttribute()
	resp.Schema = schema.Schema{
		MarkdownDescription: "The CVMs of an app, or of the whole Roost workspace, those on their way out included.",
		Attributes: map[string]schema.Attribute{
			"app_id": schema.StringAttribute{
				Optional: true, Validators: []validator.String{uuid{}}, MarkdownDescription: "ID of the app. Default: all apps.",
			},
			"cvms": schema.ListNestedAttribute{
				Computed: true, NestedObject: schema.NestedAttributeObject{Attributes: maps.Clone(each)},
				MarkdownDescription: "The CVMs; of an app oldest first.",
			},
		},
	}
}

// Read implements datasource.DataSource.
func (s *cvmsSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var app types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("app_id"), &app)...)
	if resp.Diagnostics.HasError() {
		return
	}
	cvms, err := s.list(ctx, app)
	if err != nil {
		resp.Diagnostics.AddError("The CVMs cannot be listed", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("app_id"), app)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("cvms"), cvms)...)
}

func (s *cvmsSource) list(ctx context.Context, app types.String) ([]cvmFields, error) {
	out := []cvmFields{}
	if !app.IsNull() {
		id, err := api.ParseID(app.ValueString())
		if err != nil {
			return nil, err
		}
		cvms, err := s.AppCVMs(ctx, id)
		for _, c := range cvms {
			out = append(out, fieldsOf(c))
		}
		return out, err
	}
	for c, err := range s.CVMs(ctx) {
		if err != nil {
			return nil, err
		}
		out = append(out, fieldsOf(c))
	}
	return out, nil
}
