package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits of a Spec.
const (
	MaxNameBytes  = 63
	MaxVCPU       = 256
	MaxMemoryMB   = 4 << 20 // 4 TiB
	MaxDiskGB     = 64 << 10
	MaxEnvKeys    = 1024
	MaxCount      = 100 // of replicas in one call
	MaxPageLimit  = 200
	MaxBodyBytes  = 1 << 20
	MaxJSONDepth  = 32
	MaxWaitSecs   = 60
	DefaultImage  = "dstack-0.5.7"
	DefaultRegion = "local-1"
	DefaultFS     = "zfs"
)

// Spec is what a client asks a CVM to be. Every optional member may be absent
// or null, which is the same. Members that only other clouds use are known,
// kept and handed to the driver.
type Spec struct {
	Name         string       `json:"name"`
	InstanceType string       `json:"instance_type"`
	ComposeFile  *ComposeFile `json:"compose_file,omitempty"`

	VCPU     *int64  `json:"vcpu,omitempty"`
	Memory   *int64  `json:"memory,omitempty"`    // MB
	DiskSize *int64  `json:"disk_size,omitempty"` // GB
	Image    *string `json:"image,omitempty"`
	Region   *string `json:"region,omitempty"`
	Listed   *bool   `json:"listed,omitempty"`

	EncryptedEnv *string  `json:"encrypted_env,omitempty"` // ciphertext for the machine, hex
	EnvKeys      []string `json:"env_keys,omitempty"`

	AppID *string `json:"app_id,omitempty"` // refused unless it commits a provision
	Nonce *int64  `json:"nonce,omitempty"`  // refused

	KMS                        *string          `json:"kms,omitempty"`
	KMSID                      *string          `json:"kms_id,omitempty"`
	TeepodID                   *int64           `json:"teepod_id,omitempty"`
	UserConfig                 *string          `json:"user_config,omitempty"`
	Ports                      *json.RawMessage `json:"ports,omitempty"`
	PreferDev                  *bool            `json:"prefer_dev,omitempty"`
	ExperimentalVPCServerAppID *string          `json:"experimental_vpc_server_app_id,omitempty"`
}

// ComposeFile is what runs on a CVM and how it is exposed.
type ComposeFile struct {
	DockerComposeFile    string   `json:"docker_compose_file"`
	Name                 *string  `json:"name,omitempty"`
	StorageFS            *string  `json:"storage_fs,omitempty"`
	PreLaunchScript      *string  `json:"pre_launch_script,omitempty"`
	BashScript           *string  `json:"bash_script,omitempty"`
	InitScript           *string  `json:"init_script,omitempty"`
	DefaultGatewayDomain *string  `json:"default_gateway_domain,omitempty"`
	Salt                 *string  `json:"salt,omitempty"`
	PublicLogs           *bool    `json:"public_logs,omitempty"`
	PublicSysinfo        *bool    `json:"public_sysinfo,omitempty"`
	PublicTCBInfo        *bool    `json:"public_tcbinfo,omitempty"`
	GatewayEnabled       *bool    `json:"gateway_enabled,omitempty"`
	SecureTime           *bool    `json:"secure_time,omitempty"`
	AllowedEnvs          []string `json:"allowed_envs,omitempty"`
}

// Validate names every member that is wrong, or returns nothing.
func (s Spec) Validate() []FieldError {
	var v validation
	v.require(s.Name != "", "/name")
	if s.Name != "" {
		v.name("/name", s.Name)
	}
	v.require(s.InstanceType != "", "/instance_type")
	if s.InstanceType != "" {
		v.oneOf("/instance_type", &s.InstanceType, instanceTypeNames())
	}
	v.oneOf("/image", s.Image, imageNames())
	v.oneOf("/region", s.Region, Regions())
	v.require(s.ComposeFile != nil && s.ComposeFile.DockerComposeFile != "", "/compose_file/docker_compose_file")
	v.between("/vcpu", s.VCPU, MaxVCPU)
	v.between("/memory", s.Memory, MaxMemoryMB)
	v.between("/disk_size", s.DiskSize, MaxDiskGB)
	if s.AppID != nil {
		v.add("/app_id", "is assigned by the server and cannot be chosen; to commit a provision, send its compose_hash too")
	}
	if s.Nonce != nil {
		v.add("/nonce", "is assigned by the server and cannot be chosen")
	}
	v.envNames("/env_keys", s.EnvKeys)
	if s.ComposeFile != nil {
		v.envNames("/compose_file/allowed_envs", s.ComposeFile.AllowedEnvs)
	}
	return v
}

// WithDefaults fills in every absent member that has a default.
func (s Spec) WithDefaults() Spec {
	size := instanceType(s.InstanceType)
	s.VCPU = orDefault(s.VCPU, size.VCPU)
	s.Memory = orDefault(s.Memory, size.MemoryMB)
	s.DiskSize = orDefault(s.DiskSize, size.DiskGB)
	s.Image = orDefault(s.Image, DefaultImage)
	s.Region = orDefault(s.Region, DefaultRegion)
	s.Listed = orDefault(s.Listed, false)
	compose := ComposeFile{}
	if s.ComposeFile != nil {
		compose = *s.ComposeFile
	}
	compose.StorageFS = orDefault(compose.StorageFS, DefaultFS)
	s.ComposeFile = &compose
	return s
}

// Defaults is what WithDefaults fills in and nothing else.
func (s Spec) Defaults() Spec {
	d := Spec{InstanceType: s.InstanceType}.WithDefaults()
	d.InstanceType = ""
	return d
}

func orDefault[T any](p *T, def T) *T {
	if p != nil {
		return p
	}
	return &def
}

// validation collects what is wrong with a request, member by member.
type validation []FieldError

func (v *validation) add(field, message string) {
	*v = append(*v, FieldError{Field: field, Message: message})
}

func (v *validation) require(ok bool, field string) {
	if !ok {
		v.add(field, "is required")
	}
}

func (v *validation) between(field string, n *int64, most int64) {
	if n != nil && (*n < 1 || *n > most) {
		v.add(field, fmt.Sprintf("must be from 1 to %d", most))
	}
}

// composeHash is for a hash that a provision answered.
func (v *validation) composeHash(hash string) {
	if sum, err := hex.DecodeString(hash); err != nil || len(sum) != sha256.Size || hash != strings.ToLower(hash) {
		v.add("/compose_hash", "must be the 64 digits of 0-9 a-f that the provision answered")
	}
}

// oneOf is for what the catalogue lists; absent is the default.
func (v *validation) oneOf(field string, given *string, known []string) {
	if given != nil && !slices.Contains(known, *given) {
		v.add(field, "is not one of "+strings.Join(known, ", "))
	}
}

func (v *validation) name(field, name string) {
	if name == "" || len(name) > MaxNameBytes || strings.ContainsFunc(name, notNameRune) {
		v.add(field, "must be 1 to 63 of A-Z a-z 0-9 . _ -")
	}
}

func notNameRune(r rune) bool {
	alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !alphanumeric && r != '.' && r != '_' && r != '-'
}
