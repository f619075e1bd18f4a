package api

// ScaleApp is the body of PUT /apps/{app_id}/replicas.
type ScaleApp struct {
	Count *int64 `json:"count"` // of the app's CVMs that are not being deleted, the first included
}

// Validate names every member that is wrong.
func (r ScaleApp) Validate() []FieldError {
	var v validation
	v.require(r.Count != nil, "/count")
	v.between("/count", r.Count, MaxCount)
	return v
}

// ChangePower is the body of start, stop and restart: nothing, or what
// Phala-shaped clients send along.
type ChangePower struct {
	Polling *string `json:"polling,omitempty"` // ignored
}

// PatchCVM is the body of PATCH /cvms/{vm_uuid}. What is absent stays as it is
// configured, inside compose_file too.
type PatchCVM struct {
	InstanceType *string      `json:"instance_type,omitempty"`
	VCPU         *int64       `json:"vcpu,omitempty"`
	Memory       *int64       `json:"memory,omitempty"`    // MB
	DiskSize     *int64       `json:"disk_size,omitempty"` // GB
	BaseImage    *string      `json:"base_image,omitempty"`
	ComposeFile  *ComposeFile `json:"compose_file,omitempty"`
}

// Validate names every member that is wrong.
func (r PatchCVM) Validate() []FieldError {
	var v validation
	v.oneOf("/instance_type", r.InstanceType, instanceTypeNames())
	v.oneOf("/base_image", r.BaseImage, imageNames())
	v.between("/vcpu", r.VCPU, MaxVCPU)
	v.between("/memory", r.Memory, MaxMemoryMB)
	v.between("/disk_size", r.DiskSize, MaxDiskGB)
	if r.ComposeFile != nil {
		v.envNames("/compose_file/allowed_envs", r.ComposeFile.AllowedEnvs)
	}
	return v
}

// Compared is what a repeat under one key must not change: all of it.
func (r PatchCVM) Compared() any { return r }

// Apply returns the spec with the patch's members in it. Another instance
// type brings its own vcpu and memory unless the patch names them; the disk
// stays as large as it is.
func (r PatchCVM) Apply(s Spec) Spec {
	if r.InstanceType != nil && *r.InstanceType != s.InstanceType {
		s.InstanceType = *r.InstanceType
		s.VCPU, s.Memory = nil, nil
	}
	patch(&s.VCPU, r.VCPU)
	patch(&s.Memory, r.Memory)
	patch(&s.DiskSize, r.DiskSize)
	patch(&s.Image, r.BaseImage)
	if r.ComposeFile != nil {
		compose := s.ComposeFile.merge(*r.ComposeFile)
		s.ComposeFile = &compose
	}
	return s.WithDefaults()
}

// merge returns c with the members of r that are there; an empty
// docker_compose_file is none.
func (c ComposeFile) merge(r ComposeFile) ComposeFile {
	if r.DockerComposeFile != "" {
		c.DockerComposeFile = r.DockerComposeFile
	}
	patch(&c.Name, r.Name)
	patch(&c.StorageFS, r.StorageFS)
	patch(&c.PreLaunchScript, r.PreLaunchScript)
	patch(&c.BashScript, r.BashScript)
	patch(&c.InitScript, r.InitScript)
	patch(&c.DefaultGatewayDomain, r.DefaultGatewayDomain)
	patch(&c.Salt, r.Salt)
	patch(&c.PublicLogs, r.PublicLogs)
	patch(&c.PublicSysinfo, r.PublicSysinfo)
	patch(&c.PublicTCBInfo, r.PublicTCBInfo)
	patch(&c.GatewayEnabled, r.GatewayEnabled)
	patch(&c.SecureTime, r.SecureTime)
	if r.AllowedEnvs != nil {
		c.AllowedEnvs = r.AllowedEnvs
	}
	return c
}

func patch[T any](old **T, given *T) {
	if given != nil {
		*old = given
	}
}
