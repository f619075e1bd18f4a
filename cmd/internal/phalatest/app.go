package phalatest

import (
	"cmp"
	"reflect"
	"slices"
)

// App is a phala_app as somebody wrote it; nil is not set.
type App struct {
	Name     string
	Size     string
	Image    *string
	Region   *string
	DiskSize *int64
	Listed   bool
	Replicas int

	StorageFS       *string
	DockerCompose   string
	PreLaunchScript *string
	PublicLogs      *bool
	PublicSysinfo   *bool
	PublicTCBInfo   *bool
	GatewayEnabled  *bool
	SecureTime      *bool

	// Env is encrypted by the client; or EncryptedEnv and EnvKeys are given.
	Env          map[string]string
	EncryptedEnv *string
	EnvKeys      []string

	SSHAuthorizedKeys []string
}

// State is what Terraform keeps of a phala_app: the configuration as it was
// applied, over it what the last refresh read, and what is computed.
type State struct {
	App

	AppID        string
	PrimaryCVMID string
	CVMIDs       []string
	Instances    []Instance
	Status       string
	Endpoint     string
}

// Instance is one CVM of a State, in the order of created_at.
type Instance struct {
	VMUUID, AppID, Name, Status, Region, InstanceType, CreatedAt string
}

func (a App) flags() flags {
	return flags{a.PublicLogs, a.PublicSysinfo, a.PublicTCBInfo, a.GatewayEnabled, a.SecureTime}
}

func (a *App) setFlags(f flags) {
	a.PublicLogs, a.PublicSysinfo, a.PublicTCBInfo, a.GatewayEnabled, a.SecureTime =
		f.PublicLogs, f.PublicSysinfo, f.PublicTCBInfo, f.GatewayEnabled, f.SecureTime
}

// Attributes that a plan names.
const (
	attrName      = "name"
	attrRegion    = "region"
	attrStorageFS = "storage_fs"
	attrListed    = "listed"
	attrSSHKeys   = "ssh_authorized_keys"

	attrSize      = "size"
	attrDisk      = "disk_size"
	attrFlags     = "compose flags"
	attrImage     = "image"
	attrCompose   = "docker_compose"
	attrPreLaunch = "pre_launch_script"
	attrEnv       = "env"
	attrReplicas  = "replicas"
)

// replacing is the attributes that cannot change in place.
func replacing() []string {
	return []string{attrName, attrRegion, attrStorageFS, attrListed, attrSSHKeys}
}

// differences are the attributes in which a configuration differs from a
// state, in the order in which an update sends them. What is computed and not
// set cannot differ.
func differences(want App, have State) (changed []string) {
	optional := func(attr string, same bool, set ...bool) {
		if !same && (len(set) == 0 || set[0]) {
			changed = append(changed, attr)
		}
	}
	optional(attrName, want.Name == have.Name)
	optional(attrRegion, same(want.Region, have.Region))
	optional(attrStorageFS, same(want.StorageFS, have.StorageFS), want.StorageFS != nil)
	optional(attrListed, want.Listed == have.Listed)
	optional(attrSSHKeys, slices.Equal(want.SSHAuthorizedKeys, have.SSHAuthorizedKeys))
	optional(attrSize, want.Size == have.Size)
	optional(attrDisk, same(want.DiskSize, have.DiskSize), want.DiskSize != nil)
	optional(attrFlags, want.flags().coveredBy(have.flags()))
	optional(attrImage, same(want.Image, have.Image), want.Image != nil)
	optional(attrCompose, want.DockerCompose == have.DockerCompose)
	optional(attrPreLaunch, same(want.PreLaunchScript, have.PreLaunchScript))
	optional(attrEnv, reflect.DeepEqual(want.Env, have.Env) && same(want.EncryptedEnv, have.EncryptedEnv) &&
		slices.Equal(want.EnvKeys, have.EnvKeys))
	optional(attrReplicas, want.Replicas == have.Replicas)
	return changed
}

// coveredBy says that every flag that is set is so in the other.
func (f flags) coveredBy(other flags) bool {
	for _, pair := range [][2]*bool{
		{f.PublicLogs, other.PublicLogs},
		{f.PublicSysinfo, other.PublicSysinfo},
		{f.PublicTCBInfo, other.PublicTCBInfo},
		{f.GatewayEnabled, other.GatewayEnabled},
		{f.SecureTime, other.SecureTime},
	} {
		if pair[0] != nil && !same(pair[0], pair[1]) {
			return false
		}
	}
	return true
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func replaces(changed []string) bool {
	return slices.ContainsFunc(changed, func(attr string) bool { return slices.Contains(replacing(), attr) })
}

// observe puts what was read into a state.
func (s *State) observe(list []CVM, primary CVM) {
	s.CVMIDs, s.Instances = nil, nil
	for _, c := range list {
		s.CVMIDs = append(s.CVMIDs, c.uuid())
		s.Instances = append(s.Instances, Instance{
			VMUUID: c.uuid(), AppID: or(c.AppID, ""), Name: or(c.Name, ""), Status: or(c.Status, ""), Region: or(c.region(), ""),
			InstanceType: or(c.size(), ""), CreatedAt: or(c.CreatedAt, ""),
		})
	}
	slices.SortStableFunc(s.Instances, func(a, b Instance) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) })
	s.Replicas = len(list)
	s.PrimaryCVMID, s.Status, s.Endpoint = primary.uuid(), or(primary.Status, ""), primary.endpoint()
	s.Size, s.Listed = or(primary.size(), s.Size), or(primary.Listed, false)
	s.DiskSize, s.Image, s.StorageFS = primary.disk(), primary.image(), primary.storageFS()
	if s.Region != nil { // read only where it was configured
		s.Region = primary.region()
	}
	s.setFlags(primary.settings())
}

// primaryOf is the first CVM that runs, or else the first.
func primaryOf(list []CVM) CVM {
	for _, c := range list {
		if c.status() == "running" {
			return c
		}
	}
	return list[0]
}
