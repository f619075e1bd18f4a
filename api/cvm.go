package api

// Status is where a CVM stands, as one word.
type Status string

// The statuses of a CVM, on both services.
const (
	StatusProvisioning Status = "provisioning"
	StatusStarting     Status = "starting"
	StatusRunning      Status = "running"
	StatusStopping     Status = "stopping"
	StatusStopped      Status = "stopped"
	StatusRestarting   Status = "restarting"
	StatusUpdating     Status = "updating"
	StatusDeleting     Status = "deleting"
	StatusDeleted      Status = "deleted"
	StatusFailed       Status = "failed"
)

// Power is what a CVM is asked to be.
type Power string

// The two powers.
const (
	PowerRunning Power = "running"
	PowerStopped Power = "stopped"
)

// CVM is a confidential VM as clients see it.
type CVM struct {
	VMUUID     ID       `json:"vm_uuid"`
	ID         ID       `json:"id"` // equals VMUUID
	AppID      ID       `json:"app_id"`
	Name       string   `json:"name"`
	ReplicaOf  *ID      `json:"replica_of"`
	Status     Status   `json:"status"`
	InProgress bool     `json:"in_progress"`
	Progress   Progress `json:"progress"`

	InstanceType string `json:"instance_type"`
	VCPU         int64  `json:"vcpu"`
	Memory       int64  `json:"memory"`    // MB
	DiskSize     int64  `json:"disk_size"` // GB
	BaseImage    string `json:"base_image"`
	ComposeHash  string `json:"compose_hash"`
	StorageFS    string `json:"storage_fs"`
	Listed       bool   `json:"listed"`
	Region       string `json:"region"`

	Generation         int64 `json:"generation"`
	ObservedGeneration int64 `json:"observed_generation"`

	Error     *ResourceError `json:"error"`
	CreatedAt Time           `json:"created_at"`
	UpdatedAt Time           `json:"updated_at"`
	DeletedAt *Time          `json:"deleted_at"`
	Operation *OperationRef  `json:"operation"`

	EncryptedEnvPubkey string `json:"encrypted_env_pubkey"` // X25519, hex; the app's own

	CVMAliases
}

// CVMAliases is what a CVM's members are called by clients of the Phala API:
// the same values, never others.
type CVMAliases struct {
	Resource CVMResource `json:"resource"`
	OS       CVMOS       `json:"os"`
	NodeInfo CVMNode     `json:"node_info"`

	// As configured; null: not.
	PublicLogs     *bool `json:"public_logs"`
	PublicSysinfo  *bool `json:"public_sysinfo"`
	PublicTCBInfo  *bool `json:"public_tcbinfo"`
	GatewayEnabled *bool `json:"gateway_enabled"`
	SecureTime     *bool `json:"secure_time"`

	// No gateway publishes CVMs, so these are empty, and stay so.
	Endpoints  []CVMEndpoint `json:"endpoints"`
	PublicURLs []CVMEndpoint `json:"public_urls"`
}

// CVMResource is a CVM's size.
type CVMResource struct {
	InstanceType string  `json:"instance_type"`
	VCPU         int64   `json:"vcpu"`
	MemoryInGB   float64 `json:"memory_in_gb"`
	DiskInGB     int64   `json:"disk_in_gb"`
}

// CVMOS is a CVM's image.
type CVMOS struct {
	Name string `json:"name"`
}

// CVMNode is where a CVM is.
type CVMNode struct {
	Region string `json:"region"`
}

// CVMEndpoint is where a CVM can be reached.
type CVMEndpoint struct {
	App string `json:"app"`
}

// mbPerGB is as memory is sold.
const mbPerGB = 1024

// Aliases is what a CVM of this spec, defaults filled in, is called elsewhere.
func (s Spec) Aliases() CVMAliases {
	c := s.ComposeFile
	return CVMAliases{
		Resource: CVMResource{
			InstanceType: s.InstanceType, VCPU: *s.VCPU, MemoryInGB: float64(*s.Memory) / mbPerGB, DiskInGB: *s.DiskSize,
		},
		OS: CVMOS{Name: *s.Image}, NodeInfo: CVMNode{Region: *s.Region},
		PublicLogs: c.PublicLogs, PublicSysinfo: c.PublicSysinfo, PublicTCBInfo: c.PublicTCBInfo,
		GatewayEnabled: c.GatewayEnabled, SecureTime: c.SecureTime,
		Endpoints: []CVMEndpoint{}, PublicURLs: []CVMEndpoint{},
	}
}

// Progress names what a CVM is on its way to.
type Progress struct {
	Target *Status `json:"target"` // set while in progress
}

// ResourceError says why a resource or an operation failed.
type ResourceError struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	SupersededBy string `json:"superseded_by,omitempty"` // the operation that replaced a canceled one
}

// CreateCVM is the body of POST /cvms: either the commit of a provision
// (app_id and compose_hash, with the env that was encrypted for it) or a whole
// Spec in one call.
type CreateCVM struct {
	Spec

	ComposeHash     *string `json:"compose_hash,omitempty"`
	ContractAddress *string `json:"contract_address,omitempty"`
	DeployerAddress *string `json:"deployer_address,omitempty"`
}

// IsCommit reports whether the body commits a provision.
func (r CreateCVM) IsCommit() bool { return r.ComposeHash != nil }

// Validate names every member that is wrong.
func (r CreateCVM) Validate() []FieldError {
	if !r.IsCommit() {
		return r.Spec.Validate()
	}
	var v validation
	v.require(r.AppID != nil, "/app_id")
	if r.AppID != nil {
		if _, err := ParseAppID(*r.AppID); err != nil {
			v.add("/app_id", "is not an app's ID")
		}
	}
	for _, m := range []struct {
		given bool
		field string
	}{
		{r.Name != "", "/name"},
		{r.InstanceType != "", "/instance_type"},
		{r.ComposeFile != nil, "/compose_file"},
		{r.VCPU != nil, "/vcpu"},
		{r.Memory != nil, "/memory"},
		{r.DiskSize != nil, "/disk_size"},
		{r.Image != nil, "/image"},
		{r.Region != nil, "/region"},
		{r.Listed != nil, "/listed"},
		{r.Nonce != nil, "/nonce"},
		{r.KMS != nil, "/kms"},
		{r.TeepodID != nil, "/teepod_id"},
		{r.UserConfig != nil, "/user_config"},
		{r.Ports != nil, "/ports"},
		{r.PreferDev != nil, "/prefer_dev"},
		{r.ExperimentalVPCServerAppID != nil, "/experimental_vpc_server_app_id"},
	} {
		if m.given {
			v.add(m.field, "belongs to the provision; a commit (compose_hash) cannot change it")
		}
	}
	v.composeHash(*r.ComposeHash)
	v.envNames("/env_keys", r.EnvKeys)
	return v
}

// Provision is the answer to POST /cvms/provision: what a commit needs.
type Provision struct {
	AppID               ID     `json:"app_id"`
	ComposeHash         string `json:"compose_hash"`
	InstanceType        string `json:"instance_type"`
	AppEnvEncryptPubkey string `json:"app_env_encrypt_pubkey"` // X25519, hex
	ExpiresAt           Time   `json:"expires_at"`
}

// CreateReplicas is the body of POST …/replicas: nothing, or a name for one
// replica, or a count of them.
type CreateReplicas struct {
	Name  *string `json:"name,omitempty"`
	Count *int64  `json:"count,omitempty"`
}

// Validate names every member that is wrong.
func (r CreateReplicas) Validate() []FieldError {
	var v validation
	v.between("/count", r.Count, MaxCount)
	if r.Name != nil {
		v.name("/name", *r.Name)
		if r.Count != nil && *r.Count != 1 {
			v.add("/name", "is allowed only for one replica; leave out count or name")
		}
	}
	return v
}

// CVMs is the answer to a call that makes or scales several.
type CVMs struct {
	Items     []CVM     `json:"items"`
	Operation Operation `json:"operation"`
}
