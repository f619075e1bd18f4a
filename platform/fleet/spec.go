package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
)

// draftSpec is the row of a spec, defaults filled in, and its compose_hash:
// the lower-case hex SHA-256 of the spec as JSON, members in the order of
// api.Spec, absent ones and encrypted_env left out.
func (f *Fleet) draftSpec(workspace api.ID, s api.Spec) (row models.Spec, hash string, err error) {
	s = s.WithDefaults()
	body, err := json.Marshal(s)
	if err != nil {
		return models.Spec{}, "", fmt.Errorf("encode spec: %w", err)
	}
	summary, err := json.Marshal(summarize(s))
	if err != nil {
		return models.Spec{}, "", fmt.Errorf("encode summary of spec: %w", err)
	}
	s.EncryptedEnv = nil
	hashed, err := json.Marshal(s)
	if err != nil {
		return models.Spec{}, "", fmt.Errorf("encode spec for its hash: %w", err)
	}
	sum := sha256.Sum256(hashed)
	return models.Spec{ID: f.cfg.Minter.ID(), WorkspaceID: workspace, Body: body, Summary: summary},
		hex.EncodeToString(sum[:]), nil
}

// sameSpec reports whether two specs ask for the same.
func sameSpec(a, b api.Spec) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("encode spec: %w", err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, fmt.Errorf("encode spec: %w", err)
	}
	return bytes.Equal(x, y), nil
}

// summarize keeps what views show: no ciphertext, no long text.
func summarize(s api.Spec) api.Spec {
	compose := *s.ComposeFile
	compose.DockerComposeFile = ""
	compose.PreLaunchScript, compose.BashScript, compose.InitScript, compose.Salt = nil, nil, nil, nil
	s.ComposeFile = &compose
	s.EncryptedEnv, s.UserConfig, s.Ports = nil, nil, nil
	return s
}

// insertSpec keeps a spec. It may be there already: a transaction whose
// commit was in doubt is run again with the same ID.
func insertSpec(tx *gorm.DB, row models.Spec) error {
	if err := tx.Exec(`INSERT INTO specs (id, workspace_id, body, summary) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO NOTHING`, row.ID, row.WorkspaceID, row.Body, row.Summary).Error; err != nil {
		return fmt.Errorf("insert spec: %w", err)
	}
	return nil
}

// readSpec reads a spec as it was asked for.
func readSpec(tx *gorm.DB, id api.ID) (api.Spec, error) {
	var row models.Spec
	if err := tx.Where("id = ?", id).Take(&row).Error; err != nil {
		return api.Spec{}, fmt.Errorf("read spec: %w", err)
	}
	var s api.Spec
	if err := json.Unmarshal(row.Body, &s); err != nil {
		return api.Spec{}, fmt.Errorf("decode spec: %w", err)
	}
	return s, nil
}
