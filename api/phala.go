package api

import (
	"encoding/json"
	"fmt"
	"slices"
)

// The bodies that only clients of the Phala API send and read. What they say
// is said in the terms of this package: each changes a Spec, as PatchCVM does.

// ResizeCVM is the body of PATCH /cvms/{vm_uuid}/resources.
type ResizeCVM struct {
	InstanceType *string          `json:"instance_type,omitempty"`
	VCPU         *int64           `json:"vcpu,omitempty"`
	Memory       *int64           `json:"memory,omitempty"`        // MB
	DiskSize     *int64           `json:"disk_size,omitempty"`     // GB
	AllowRestart *json.RawMessage `json:"allow_restart,omitempty"` // a number or a bool; a change restarts as it needs to
}

func (r ResizeCVM) patch() PatchCVM {
	return PatchCVM{InstanceType: r.InstanceType, VCPU: r.VCPU, Memory: r.Memory, DiskSize: r.DiskSize}
}

// Validate names every member that is wrong.
func (r ResizeCVM) Validate() []FieldError {
	v := validation(r.patch().Validate())
	if r.AllowRestart != nil && !isNumberOrBool(*r.AllowRestart) {
		v.add("/allow_restart", "must be a number, or true or false")
	}
	return v
}

func isNumberOrBool(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return false
	}
	switch v.(type) {
	case float64, bool:
		return true
	}
	return false
}

// Apply returns the spec with the given sizes; see PatchCVM.
func (r ResizeCVM) Apply(s Spec) Spec { return r.patch().Apply(s) }

// Compared leaves allow_restart out: 1 and true are the same wish.
func (r ResizeCVM) Compared() any { return r.patch() }

// ChangeOSImage is the body of PATCH /cvms/{vm_uuid}/os-image.
type ChangeOSImage struct {
	OSImageName *string `json:"os_image_name"`
}

// Validate names every member that is wrong.
func (r ChangeOSImage) Validate() []FieldError {
	var v validation
	v.require(r.OSImageName != nil, "/os_image_name")
	v.oneOf("/os_image_name", r.OSImageName, imageNames())
	return v
}

// Apply returns the spec with the image.
func (r ChangeOSImage) Apply(s Spec) Spec { s.Image = r.OSImageName; return s }

// Compared is all of it.
func (r ChangeOSImage) Compared() any { return r }

// ChangeDockerCompose is the text of PATCH /cvms/{vm_uuid}/docker-compose.
type ChangeDockerCompose struct {
	Text string `json:"body"`
}

// Validate names the body if it is empty.
func (r ChangeDockerCompose) Validate() []FieldError {
	var v validation
	v.require(r.Text != "", "body")
	return v
}

// Apply returns the spec with the compose file.
func (r ChangeDockerCompose) Apply(s Spec) Spec {
	compose := *s.ComposeFile
	compose.DockerComposeFile = r.Text
	s.ComposeFile = &compose
	return s
}

// Compared is all of it.
func (r ChangeDockerCompose) Compared() any { return r }

// ChangePreLaunchScript is the text of PATCH /cvms/{vm_uuid}/pre-launch-script.
// An empty one takes the script away.
type ChangePreLaunchScript struct {
	Text string `json:"body"`
}

// Apply returns the spec with the script, or without one.
func (r ChangePreLaunchScript) Apply(s Spec) Spec {
	compose := *s.ComposeFile
	compose.PreLaunchScript = nil
	if r.Text != "" {
		compose.PreLaunchScript = &r.Text
	}
	s.ComposeFile = &compose
	return s
}

// Compared is all of it.
func (r ChangePreLaunchScript) Compared() any { return r }

// ChangeEnvs is the body of PATCH /cvms/{vm_uuid}/envs. What is absent stays.
// The ciphertext counts when it is asked whether anything is new: another one
// may hold other values.
type ChangeEnvs struct {
	EncryptedEnv    *string  `json:"encrypted_env,omitempty"` // hex
	EnvKeys         []string `json:"env_keys,omitempty"`
	ComposeHash     *string  `json:"compose_hash,omitempty"`     // known, not used: there is no chain to ask
	TransactionHash *string  `json:"transaction_hash,omitempty"` // as above
}

// Validate names every member that is wrong.
func (r ChangeEnvs) Validate() []FieldError {
	var v validation
	v.envNames("/env_keys", r.EnvKeys)
	return v
}

// Apply returns the spec with the environment.
func (r ChangeEnvs) Apply(s Spec) Spec {
	patch(&s.EncryptedEnv, r.EncryptedEnv)
	if r.EnvKeys != nil {
		s.EnvKeys = r.EnvKeys
	}
	return s
}

// Compared leaves the ciphertext out: clients encrypt anew each time.
func (r ChangeEnvs) Compared() any { r.EncryptedEnv = nil; return r }

// ProvisionComposeFile is the body of POST /cvms/{vm_uuid}/compose_file/provision:
// the settings to change; what is absent stays.
type ProvisionComposeFile struct {
	ComposeFile

	UpdateEnvVars *bool `json:"update_env_vars,omitempty"` // known, not used: the commit says it by what it carries
}

// Validate names every member that is wrong.
func (r ProvisionComposeFile) Validate() []FieldError {
	var v validation
	v.envNames("/allowed_envs", r.AllowedEnvs)
	return v
}

// Apply returns the spec with the settings.
func (r ProvisionComposeFile) Apply(s Spec) Spec {
	return PatchCVM{ComposeFile: &r.ComposeFile}.Apply(s)
}

// Compared is the settings.
func (r ProvisionComposeFile) Compared() any { return r.ComposeFile }

// CommitComposeFile is the body of PATCH /cvms/{vm_uuid}/compose_file: the
// compose_hash that the provision answered, and the environment that was
// encrypted for it.
type CommitComposeFile struct {
	ComposeHash   string   `json:"compose_hash"`
	EncryptedEnv  *string  `json:"encrypted_env,omitempty"`
	EnvKeys       []string `json:"env_keys,omitempty"`
	UpdateEnvVars *bool    `json:"update_env_vars,omitempty"` // known, not used
}

// Envs is the environment that comes with it.
func (r CommitComposeFile) Envs() ChangeEnvs {
	return ChangeEnvs{EncryptedEnv: r.EncryptedEnv, EnvKeys: r.EnvKeys}
}

// Validate names every member that is wrong.
func (r CommitComposeFile) Validate() []FieldError {
	var v validation
	v.composeHash(r.ComposeHash)
	v.envNames("/env_keys", r.EnvKeys)
	return v
}

// Compared leaves the ciphertext out.
func (r CommitComposeFile) Compared() any { r.EncryptedEnv, r.UpdateEnvVars = nil, nil; return r }

// envNames is for a list of variables' names. A null in it has been decoded
// to an empty one.
func (v *validation) envNames(field string, names []string) {
	if len(names) > MaxEnvKeys {
		v.add(field, fmt.Sprintf("holds more than %d names", MaxEnvKeys))
	}
	if i := slices.Index(names, ""); i >= 0 {
		v.add(fmt.Sprintf("%s/%d", field, i), "must be a name")
	}
}

// Account is the answer to GET /auth/me: whom a token speaks for.
type Account struct {
	User      AccountUser      `json:"user"`
	Workspace AccountWorkspace `json:"workspace"`
	Credits   AccountCredits   `json:"credits"`
}

// AccountUser stands for the token: tokens belong to workspaces, not to people.
type AccountUser struct {
	Username       string  `json:"username"` // the token's ID
	Email          string  `json:"email"`    // "": there is none
	Role           string  `json:"role"`     // the token's scope
	Avatar         *string `json:"avatar"`
	EmailVerified  bool    `json:"email_verified"`
	TOTPEnabled    bool    `json:"totp_enabled"`
	HasBackupCodes bool    `json:"has_backup_codes"`
	HasPassword    bool    `json:"flag_has_password"`
}

// AccountWorkspace is the token's workspace.
type AccountWorkspace struct {
	ID     ID      `json:"id"`
	Name   string  `json:"name"`
	Slug   string  `json:"slug"`
	Tier   string  `json:"tier"`
	Role   string  `json:"role"` // the token's scope
	Avatar *string `json:"avatar"`
}

// AccountCredits says that nothing is charged, in the words of a bill.
type AccountCredits struct {
	Balance           string  `json:"balance"`
	GrantedBalance    string  `json:"granted_balance"`
	IsPostPaid        bool    `json:"is_post_paid"`
	OutstandingAmount *string `json:"outstanding_amount"`
}

// Tier is the one plan that there is.
const Tier = "standard"

// Charge is what everything costs.
const Charge = "0"

// FilterOptions is the answer to GET /apps/filter-options: the words by which
// apps can be told apart.
type FilterOptions struct {
	Statuses      []Status `json:"statuses"`
	ImageVersions []string `json:"image_versions"`
	InstanceTypes []string `json:"instance_types"`
	KMSSlugs      []string `json:"kms_slugs"`
	KMSTypes      []string `json:"kms_types"`
	Regions       []string `json:"regions"`
	Nodes         []string `json:"nodes"`
}

// AllFilterOptions is the catalogue in these words.
func AllFilterOptions() FilterOptions {
	o := FilterOptions{
		Statuses: []Status{
			StatusProvisioning, StatusStarting, StatusRunning, StatusStopping, StatusStopped,
			StatusRestarting, StatusUpdating, StatusDeleting, StatusFailed,
		},
		ImageVersions: imageNames(), InstanceTypes: instanceTypeNames(),
		KMSSlugs: []string{}, KMSTypes: []string{}, Regions: Regions(), Nodes: []string{},
	}
	for _, region := range Regions() {
		o.Nodes = append(o.Nodes, nodeName(region))
	}
	return o
}

// AvailableNodes is the answer to GET /teepods/available.
type AvailableNodes struct {
	Tier     string        `json:"tier"`
	Capacity NodesCapacity `json:"capacity"`
	Nodes    []Node        `json:"nodes"`
	KMSList  []string      `json:"kms_list"`
}

// NodesCapacity is how much a workspace may have in all.
type NodesCapacity struct {
	MaxInstances int64 `json:"max_instances"`
}

// Node is where CVMs run. What remains is what the workspace's quota leaves,
// at the largest instance type.
type Node struct {
	TeepodID          int64    `json:"teepod_id"`
	Name              string   `json:"name"`
	Listed            bool     `json:"listed"`
	ResourceScore     float64  `json:"resource_score"`
	RemainingVCPU     float64  `json:"remaining_vcpu"`
	RemainingMemory   float64  `json:"remaining_memory"` // MB
	RemainingCVMSlots float64  `json:"remaining_cvm_slots"`
	Images            []Image  `json:"images"`
	SupportOnchainKMS bool     `json:"support_onchain_kms"`
	FMSPC             *string  `json:"fmspc"`
	DeviceID          *string  `json:"device_id"`
	RegionIdentifier  string   `json:"region_identifier"`
	KMSList           []string `json:"kms_list"`
}

// NodesFor is the nodes for a workspace that has used some of its quota of CVMs.
func NodesFor(quota, used int64) AvailableNodes {
	types := InstanceTypes()
	largest, left := types[len(types)-1], max(quota-used, 0)
	a := AvailableNodes{Tier: Tier, Capacity: NodesCapacity{MaxInstances: quota}, Nodes: []Node{}, KMSList: []string{}}
	for i, region := range Regions() {
		a.Nodes = append(a.Nodes, Node{
			TeepodID: int64(i) + 1, Name: nodeName(region), Listed: true, ResourceScore: 1,
			RemainingVCPU: float64(left * largest.VCPU), RemainingMemory: float64(left * largest.MemoryMB),
			RemainingCVMSlots: float64(left), Images: Images(), RegionIdentifier: region, KMSList: []string{},
		})
	}
	return a
}

// nodeName names the one node of a region.
func nodeName(region string) string { return "node-" + region }

// InstanceTypeList is the answer to GET /instance-types: the sizes as a list
// of ours, and as the families in which Phala-shaped clients look for them.
type InstanceTypeList struct {
	Items      []InstanceType   `json:"items"`
	NextCursor *string          `json:"next_cursor"`
	Result     []InstanceFamily `json:"result"`
}

// InstanceFamily is sizes of one kind.
type InstanceFamily struct {
	Name  string           `json:"name"`
	Items []FamilyInstance `json:"items"`
}

// FamilyInstance is an InstanceType in other words.
type FamilyInstance struct {
	ID                string `json:"id"`
	Name              string `json:"name"`
	Description       string `json:"description"`
	VCPU              int64  `json:"vcpu"`
	MemoryMB          int64  `json:"memory_mb"`
	DefaultDiskSizeGB int64  `json:"default_disk_size_gb"`
	HourlyRate        string `json:"hourly_rate"`
	RequiresGPU       bool   `json:"requires_gpu"`
	Family            string `json:"family"`
}

// familyCPU is the one family: sizes without a GPU.
const familyCPU = "cpu"

// ListInstanceTypes is the catalogue of sizes, in both words.
func ListInstanceTypes() InstanceTypeList {
	family := InstanceFamily{Name: familyCPU}
	for _, t := range InstanceTypes() {
		family.Items = append(family.Items, FamilyInstance{
			ID: t.ID, Name: t.ID, Description: fmt.Sprintf("%d vCPU, %d MB, %d GB disk", t.VCPU, t.MemoryMB, t.DiskGB),
			VCPU: t.VCPU, MemoryMB: t.MemoryMB, DefaultDiskSizeGB: t.DiskGB, HourlyRate: Charge, Family: familyCPU,
		})
	}
	return InstanceTypeList{Items: InstanceTypes(), Result: []InstanceFamily{family}}
}
