package phalatest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// CVM is what the provider reads of one, with the JSON types it insists on.
type CVM struct {
	VMUUID     *string         `json:"vm_uuid"`
	ID         json.RawMessage `json:"id"` // a string or a number
	Status     *string         `json:"status"`
	InProgress *bool           `json:"in_progress"`
	Progress   *struct {
		Target *string `json:"target"`
	} `json:"progress"`
	AppID      *string `json:"app_id"`
	Name       *string `json:"name"`
	InstanceID *string `json:"instance_id"`
	CreatedAt  *string `json:"created_at"`
	Resource   *struct {
		InstanceType *string `json:"instance_type"`
		DiskInGB     *int64  `json:"disk_in_gb"`
	} `json:"resource"`
	InstanceType *string `json:"instance_type"`
	DiskSize     *int64  `json:"disk_size"`
	OS           *struct {
		Name *string `json:"name"`
	} `json:"os"`
	BaseImage *string `json:"base_image"`
	NodeInfo  *struct {
		Region *string `json:"region"`
	} `json:"node_info"`
	Node *struct {
		RegionIdentifier *string `json:"region_identifier"`
	} `json:"node"`
	ComposeFile *struct {
		flags

		StorageFS *string `json:"storage_fs"`
	} `json:"compose_file"`
	flags

	StorageFS          *string     `json:"storage_fs"`
	Endpoints          []publicURL `json:"endpoints"`
	PublicURLs         []publicURL `json:"public_urls"`
	Listed             *bool       `json:"listed"`
	EncryptedEnvPubkey *string     `json:"encrypted_env_pubkey"`
	KMSInfo            *struct {
		EncryptedEnvPubkey *string `json:"encrypted_env_pubkey"`
	} `json:"kms_info"`
	Hosted map[string]any `json:"hosted"`
}

type flags struct {
	PublicLogs     *bool `json:"public_logs"`
	PublicSysinfo  *bool `json:"public_sysinfo"`
	PublicTCBInfo  *bool `json:"public_tcbinfo"`
	GatewayEnabled *bool `json:"gateway_enabled"`
	SecureTime     *bool `json:"secure_time"`
}

type publicURL struct {
	App string `json:"app"`
}

// firstOf is the first of several places in which a value may be.
func firstOf[T any](places ...*T) *T {
	for _, p := range places {
		if p != nil {
			return p
		}
	}
	return nil
}

func or[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

func (c CVM) uuid() string   { return or(c.VMUUID, "") }
func (c CVM) status() string { return strings.ToLower(or(c.Status, "")) }

// busy is in progress, by either of its two words.
func (c CVM) busy() bool {
	return or(c.InProgress, false) || c.Progress != nil && or(c.Progress.Target, "") != ""
}

func (c CVM) size() *string {
	if c.Resource != nil && c.Resource.InstanceType != nil {
		return c.Resource.InstanceType
	}
	return c.InstanceType
}

func (c CVM) disk() *int64 {
	if c.Resource != nil && c.Resource.DiskInGB != nil {
		return c.Resource.DiskInGB
	}
	return c.DiskSize
}

func (c CVM) image() *string {
	if c.OS != nil && c.OS.Name != nil {
		return c.OS.Name
	}
	return c.BaseImage
}

func (c CVM) region() *string {
	if c.NodeInfo != nil && c.NodeInfo.Region != nil {
		return c.NodeInfo.Region
	}
	if c.Node != nil {
		return c.Node.RegionIdentifier
	}
	return nil
}

func (c CVM) settings() flags {
	if c.ComposeFile == nil {
		return c.flags
	}
	in := c.ComposeFile.flags
	return flags{
		PublicLogs:     firstOf(in.PublicLogs, c.PublicLogs),
		PublicSysinfo:  firstOf(in.PublicSysinfo, c.PublicSysinfo),
		PublicTCBInfo:  firstOf(in.PublicTCBInfo, c.PublicTCBInfo),
		GatewayEnabled: firstOf(in.GatewayEnabled, c.GatewayEnabled),
		SecureTime:     firstOf(in.SecureTime, c.SecureTime),
	}
}

func (c CVM) storageFS() *string {
	if c.ComposeFile != nil && c.ComposeFile.StorageFS != nil {
		return c.ComposeFile.StorageFS
	}
	return c.StorageFS
}

func (c CVM) endpoint() string {
	for _, urls := range [][]publicURL{c.Endpoints, c.PublicURLs} {
		if len(urls) > 0 && urls[0].App != "" {
			return urls[0].App
		}
	}
	return ""
}

func (c CVM) pubkey() string {
	if c.EncryptedEnvPubkey != nil {
		return *c.EncryptedEnvPubkey
	}
	if c.KMSInfo != nil {
		return or(c.KMSInfo.EncryptedEnvPubkey, "")
	}
	return ""
}

// cvms reads an app's list. An element of a wrong type is dropped in silence,
// as the provider drops it; an envelope is an error.
func (c *Client) cvms(ctx context.Context, app string) ([]CVM, error) {
	body, err := c.do(ctx, get(appPath(app, "cvms")))
	if err != nil {
		return nil, err
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, fmt.Errorf("decode list of CVMs: %w", err)
	}
	var out []CVM
	for _, raw := range elements {
		var cvm CVM
		if json.Unmarshal(raw, &cvm) == nil && !bytes.Equal(raw, []byte("null")) {
			out = append(out, cvm)
		}
	}
	return out, nil
}

func (c *Client) cvm(ctx context.Context, id string) (CVM, error) {
	var cvm CVM
	body, err := c.do(ctx, get(cvmPath(id)).viaTyped())
	if err != nil {
		return cvm, err
	}
	if err := json.Unmarshal(body, &cvm); err != nil {
		return cvm, fmt.Errorf("decode CVM: %w", err)
	}
	return cvm, nil
}

// The provider's waits: between polls, and in all.
const (
	countInterval = 2 * time.Second
	readyInterval = 3 * time.Second
	// waitTimeout is real time, whatever the pace.
	waitTimeout = 60 * time.Second
)

var errTimeout = errors.New("wait_timeout_seconds is over")

// poll looks until done says so; the first look is immediate. Where again says
// so of an error, it is no end.
func (c *Client) poll(ctx context.Context, interval time.Duration, look func(context.Context) (done bool, err error), again ...int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, waitTimeout, errTimeout)
	defer cancel()
	for {
		done, err := look(ctx)
		status := statusOf(err)
		pollAgain := transient(status)
		for _, s := range again {
			pollAgain = pollAgain || s == status
		}
		if done || err != nil && !pollAgain {
			return err
		}
		if err := c.pause(ctx, jitter(interval)); err != nil {
			return err
		}
	}
}

// awaitCount polls until the list has exactly n elements, then reads it once more.
func (c *Client) awaitCount(ctx context.Context, app string, n int) ([]CVM, error) {
	err := c.poll(ctx, countInterval, func(ctx context.Context) (bool, error) {
		list, err := c.cvms(ctx, app)
		return err == nil && len(list) == n, err
	}, http.StatusNotFound)
	if err != nil {
		return nil, fmt.Errorf("wait for %d CVMs: %w", n, err)
	}
	return c.cvms(ctx, app)
}

// awaitReady polls until there are n CVMs and all run. One that rests stopped
// ends it.
func (c *Client) awaitReady(ctx context.Context, app string, n int) error {
	err := c.poll(ctx, readyInterval, func(ctx context.Context) (bool, error) {
		list, err := c.cvms(ctx, app)
		if err != nil {
			return false, err
		}
		ready := len(list) >= n
		for _, cvm := range list {
			if cvm.status() == "stopped" && !cvm.busy() {
				return true, fmt.Errorf("CVM %s is stopped", cvm.uuid())
			}
			ready = ready && cvm.status() == "running" && !cvm.busy()
		}
		return ready, nil
	}, http.StatusNotFound)
	if err != nil {
		return fmt.Errorf("wait until the app is ready: %w", err)
	}
	return nil
}
