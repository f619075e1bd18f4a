package phalatest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Account is data.phala_account and data.phala_workspace.
type Account struct {
	User struct {
		Username      string  `json:"username"`
		Email         string  `json:"email"`
		Role          string  `json:"role"`
		Avatar        *string `json:"avatar"`
		EmailVerified *bool   `json:"email_verified"`
	} `json:"user"`
	Workspace struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		Slug string `json:"slug"`
		Tier string `json:"tier"`
		Role string `json:"role"`
	} `json:"workspace"`
	Credits struct {
		Balance        string `json:"balance"`
		GrantedBalance string `json:"granted_balance"`
		IsPostPaid     *bool  `json:"is_post_paid"`
	} `json:"credits"`
}

// Size is one of data.phala_sizes.
type Size struct {
	ID                string  `json:"id"`
	Name              string  `json:"name"`
	VCPU              float64 `json:"vcpu"`
	MemoryMB          float64 `json:"memory_mb"`
	HourlyRate        string  `json:"hourly_rate"`
	RequiresGPU       bool    `json:"requires_gpu"`
	DefaultDiskSizeGB float64 `json:"default_disk_size_gb"`
	Family            *string `json:"family"`
}

// Node is one of data.phala_nodes; its images are data.phala_images.
type Node struct {
	TeepodID          int     `json:"teepod_id"`
	Name              string  `json:"name"`
	Listed            bool    `json:"listed"`
	RemainingVCPU     float64 `json:"remaining_vcpu"`
	RemainingMemory   float64 `json:"remaining_memory"`
	RemainingCVMSlots float64 `json:"remaining_cvm_slots"`
	RegionIdentifier  *string `json:"region_identifier"`
	Images            []struct {
		Name    string `json:"name"`
		IsDev   bool   `json:"is_dev"`
		Version any    `json:"version"`
	} `json:"images"`
	SupportOnchainKMS *bool    `json:"support_onchain_kms"`
	KMSList           []string `json:"kms_list"`
}

// Account reads whose key it is.
func (c *Client) Account(ctx context.Context) (Account, error) {
	return fetch[Account](ctx, c, get("/auth/me").viaTyped())
}

// Sizes reads the sizes of every family.
func (c *Client) Sizes(ctx context.Context) ([]Size, error) {
	payload, err := fetch[struct {
		Result []struct {
			Name  string `json:"name"`
			Items []Size `json:"items"`
		} `json:"result"`
	}](ctx, c, get("/instance-types"))
	var sizes []Size
	for _, family := range payload.Result {
		sizes = append(sizes, family.Items...)
	}
	return sizes, err
}

// Nodes reads the nodes with an ID.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	available, err := fetch[struct {
		Tier  string `json:"tier"`
		Nodes []Node `json:"nodes"`
	}](ctx, c, get("/teepods/available").viaTyped())
	return slices.DeleteFunc(available.Nodes, func(n Node) bool { return n.TeepodID <= 0 }), err
}

// Regions reads the names of regions, and whether a node is in them.
func (c *Client) Regions(ctx context.Context) (map[string]bool, error) {
	options, err := fetch[struct {
		Regions []string `json:"regions"`
	}](ctx, c, get("/apps/filter-options").viaTyped())
	if err != nil {
		return nil, err
	}
	regions := map[string]bool{}
	for _, r := range options.Regions {
		regions[strings.TrimSpace(r)] = false
	}
	nodes, err := c.Nodes(ctx)
	for _, n := range nodes {
		regions[or(n.RegionIdentifier, "")] = true
	}
	return regions, err
}

func fetch[T any](ctx context.Context, c *Client, k call) (T, error) {
	var v T
	body, err := c.do(ctx, k)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("decode %s: %w", k.path, err)
	}
	return v, nil
}
