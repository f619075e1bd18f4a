package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// specOf is what a configuration asks each CVM to be. What it does not name is
// not in it: the server's defaults are the server's to choose, and to change.
func specOf(m appModel) api.Spec {
	return api.Spec{
		Name: m.Name.ValueString(), InstanceType: m.InstanceType.ValueString(),
		ComposeFile: &api.ComposeFile{DockerComposeFile: m.DockerCompose.ValueString(), StorageFS: stringPtr(m.StorageFS)},
		VCPU:        int64Ptr(m.VCPU), Memory: int64Ptr(m.Memory), DiskSize: int64Ptr(m.DiskSize),
		Image: stringPtr(m.Image), Region: stringPtr(m.Region), Listed: m.Listed.ValueBoolPointer(),
		EncryptedEnv: stringPtr(m.EncryptedEnv), EnvKeys: stringsOf(m.EnvKeys),
	}
}

// envOf is the environment that a spec asks for, nil for none.
func envOf(s api.Spec) *api.ChangeEnvs {
	if s.EncryptedEnv == nil && s.EnvKeys == nil {
		return nil
	}
	return &api.ChangeEnvs{EncryptedEnv: s.EncryptedEnv, EnvKeys: s.EnvKeys}
}

// stringsOf are a list's elements, nil without a list.
func stringsOf(list types.List) (out []string) {
	for _, e := range list.Elements() {
		if s, ok := e.(types.String); ok {
			out = append(out, s.ValueString())
		}
	}
	return out
}

func stringPtr(v types.String) *string {
	if v.IsNull() || v.IsUnknown() {
		return nil
	}
	return v.ValueStringPointer()
}

func int64Ptr(v types.Int64) *int64 {
	if v.IsNull() || v.IsUnknown() {
		return nil
	}
	return v.ValueInt64Pointer()
}

// patchFor is what brings a CVM to a spec. nil: nothing is to be done.
func patchFor(spec api.Spec, cvm api.CVM, compose string) *api.PatchCVM {
	var p api.PatchCVM
	if spec.InstanceType != cvm.InstanceType {
		p.InstanceType = &spec.InstanceType
		p.VCPU, p.Memory = spec.VCPU, spec.Memory // else they would become the new type's
	}
	unlessSame(&p.VCPU, spec.VCPU, cvm.VCPU)
	unlessSame(&p.Memory, spec.Memory, cvm.Memory)
	unlessSame(&p.DiskSize, spec.DiskSize, cvm.DiskSize)
	unlessSame(&p.BaseImage, spec.Image, cvm.BaseImage)
	if spec.ComposeFile.DockerComposeFile != compose {
		p.ComposeFile = &api.ComposeFile{DockerComposeFile: spec.ComposeFile.DockerComposeFile}
	}
	if p == (api.PatchCVM{}) {
		return nil
	}
	return &p
}

func unlessSame[T comparable](out **T, want *T, have T) {
	if want != nil && *want != have {
		*out = want
	}
}

// specLike is a spec that a CVM already has.
func specLike(c api.CVM, compose string) api.Spec {
	return api.Spec{
		InstanceType: c.InstanceType, ComposeFile: &api.ComposeFile{DockerComposeFile: compose},
		VCPU: &c.VCPU, Memory: &c.Memory, DiskSize: &c.DiskSize, Image: &c.BaseImage,
	}
}

// like fills in what a spec leaves open, from a CVM that has it.
func like(spec api.Spec, c api.CVM) api.Spec {
	fill(&spec.VCPU, c.VCPU)
	fill(&spec.Memory, c.Memory)
	fill(&spec.DiskSize, c.DiskSize)
	fill(&spec.Image, c.BaseImage)
	return spec
}

func fill[T any](out **T, have T) {
	if *out == nil {
		*out = &have
	}
}

// unpatchable names what a spec wants otherwise and no patch can change.
func unpatchable(spec api.Spec, cvm api.CVM) []string {
	var out []string
	differ := func(name string, want *string, have string) {
		if want != nil && *want != have {
			out = append(out, fmt.Sprintf("%s is %s", name, have))
		}
	}
	differ("region", spec.Region, cvm.Region)
	differ("storage_fs", spec.ComposeFile.StorageFS, cvm.StorageFS)
	if spec.Listed != nil && *spec.Listed != cvm.Listed {
		out = append(out, fmt.Sprintf("listed is %t", cvm.Listed))
	}
	return out
}

// texts are compose files by the hash of the configuration that they are in.
// CVMs of one hash have one text, so an app is one request, or none if its text
// is known already.
type texts struct {
	platform *platform
	known    map[string]string
}

func (p *platform) texts(m appModel) texts {
	t := texts{platform: p, known: map[string]string{}}
	if hash := m.ComposeHash.ValueString(); hash != "" && !m.DockerCompose.IsNull() {
		t.known[hash] = m.DockerCompose.ValueString()
	}
	return t
}

func (t texts) of(ctx context.Context, cvm api.CVM) (string, error) {
	if text, ok := t.known[cvm.ComposeHash]; ok {
		return text, nil
	}
	text, err := t.platform.DockerCompose(ctx, cvm.VMUUID)
	if err != nil {
		return "", fmt.Errorf("read the compose file of CVM %s: %w", cvm.VMUUID, err)
	}
	t.known[cvm.ComposeHash] = text
	return text, nil
}
