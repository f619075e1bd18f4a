// Package token makes, revokes and checks API tokens.
//
// It promises that a token's secret is shown once and never kept: the database
// holds its SHA-256. A token belongs to one workspace and is checked against
// the database on every request, so that a revocation holds from the next
// request on, replays included. It never logs a secret.
package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/models/pg"
)

// Scopes of a token.
const (
	ScopeRead  = "read"  // may only GET
	ScopeWrite = "write" // may everything
)

const (
	secretPrefix = "roost_" // lets secret scanners recognise one
	secretBytes  = 32
	maxNameBytes = 63
)

// Caller is who a request comes from.
type Caller struct {
	TokenID     string
	WorkspaceID api.ID
	Scope       string
}

// Params says what token to make.
type Params struct {
	Workspace string        // made if it is new
	Scope     string        // ScopeRead or ScopeWrite
	TTL       time.Duration // 0: never expires
	Secret    string        // "": a random one
}

// Info is a token without its secret.
type Info struct {
	ID        string
	Workspace string
	Scope     string
	CreatedAt time.Time
	ExpiresAt *time.Time
	RevokedAt *time.Time
}

// Create makes a token and returns its secret. With Params.Secret it may be
// repeated: the token that has this secret in this workspace is kept.
func Create(ctx context.Context, db *gorm.DB, mint *api.Minter, p Params) (secret, id string, err error) {
	if p.Workspace == "" || len(p.Workspace) > maxNameBytes {
		return "", "", fmt.Errorf("workspace name must have 1 to %d characters", maxNameBytes)
	}
	if p.Scope != ScopeRead && p.Scope != ScopeWrite {
		return "", "", fmt.Errorf("scope must be %s or %s, not %q", ScopeRead, ScopeWrite, p.Scope)
	}
	if p.TTL != 0 && p.TTL < time.Microsecond { // a column's resolution; less would round to never
		return "", "", fmt.Errorf("time to live must be 0 (never expires) or more, not %s", p.TTL)
	}
	if secret = p.Secret; secret == "" {
		secret = newSecret()
	}
	id = mint.RequestID()
	err = pg.InTx(ctx, db, func(tx *gorm.DB) error {
		workspace, err := ensureWorkspace(tx, mint, p.Workspace)
		if err != nil {
			return err
		}
		id, err = ensureToken(tx, workspace, id, secret, p)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("create token: %w", err)
	}
	return secret, id, nil
}

func ensureWorkspace(tx *gorm.DB, mint *api.Minter, name string) (api.ID, error) {
	if err := tx.Exec(`INSERT INTO workspaces (id, name) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`,
		mint.ID(), name).Error; err != nil {
		return api.ID{}, fmt.Errorf("insert workspace: %w", err)
	}
	var w models.Workspace
	if err := tx.Where("name = ?", name).Take(&w).Error; err != nil {
		return api.ID{}, fmt.Errorf("read workspace: %w", err)
	}
	return w.ID, nil
}

func ensureToken(tx *gorm.DB, workspace api.ID, id, secret string, p Params) (string, error) {
	if err := tx.Exec(`INSERT INTO tokens (id, workspace_id, secret_hash, scope, expires_at)
		VALUES (?, ?, ?, ?, CASE WHEN ?::bigint > 0 THEN clock_timestamp() + ?::bigint * interval '1 microsecond' END)
		ON CONFLICT (secret_hash) DO NOTHING`,
		id, workspace, hash(secret), p.Scope, p.TTL.Microseconds(), p.TTL.Microseconds()).Error; err != nil {
		return "", fmt.Errorf("insert token: %w", err)
	}
	var t models.Token
	if err := tx.Where("secret_hash = ?", hash(secret)).Take(&t).Error; err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if t.WorkspaceID != workspace || t.RevokedAt != nil {
		return "", errors.New("this secret belongs to another workspace or was revoked")
	}
	return t.ID, nil
}

// Revoke ends a token at once. Revoking twice is no error.
func Revoke(ctx context.Context, db *gorm.DB, id string) error {
	res := db.WithContext(ctx).Exec(
		`UPDATE tokens SET revoked_at = COALESCE(revoked_at, clock_timestamp()) WHERE id = ?`, id)
	if res.Error != nil {
		return fmt.Errorf("revoke token: %w", res.Error)
	}
	if res.RowsAffected == 0 {
		return fmt.Errorf("there is no token %q; token list shows those that exist", id)
	}
	return nil
}

// List returns every token, oldest first.
func List(ctx context.Context, db *gorm.DB) ([]Info, error) {
	var infos []Info
	err := db.WithContext(ctx).Raw(`SELECT t.id, w.name AS workspace, t.scope, t.created_at, t.expires_at, t.revoked_at
		FROM tokens t JOIN workspaces w ON w.id = t.workspace_id ORDER BY t.id`).Find(&infos).Error
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return infos, nil
}

// Authenticate says who holds the secret, or returns an *api.Error with
// CodeUnauthenticated, the same for unknown, expired and revoked ones.
func Authenticate(ctx context.Context, db *gorm.DB, secret string) (Caller, error) {
	refused := api.Errorf(api.CodeUnauthenticated,
		"send a valid token as %s: TOKEN or Authorization: Bearer TOKEN.", api.HeaderAPIKey)
	if secret == "" {
		return Caller{}, refused
	}
	digest := hash(secret)
	var t models.Token
	err := db.WithContext(ctx).Where(
		"secret_hash = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())", digest).Take(&t).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Caller{}, refused
	}
	if err != nil {
		return Caller{}, fmt.Errorf("authenticate: %w", err)
	}
	// The index has compared a hash that a caller cannot steer; this compares
	// it in constant time, so that the last word does not rest on an index.
	if subtle.ConstantTimeCompare(t.SecretHash, digest) != 1 {
		return Caller{}, refused
	}
	return Caller{TokenID: t.ID, WorkspaceID: t.WorkspaceID, Scope: t.Scope}, nil
}

func newSecret() string {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails: it ends the process instead
	return secretPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
