package token_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models/pgtest"
	"roost/platform/token"
)

type testBundle struct {
	db   *gorm.DB
	mint *api.Minter
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return &testBundle{db: pgtest.Platform(t), mint: api.NewMinter()}
}

func (b *testBundle) create(t *testing.T, p token.Params) (secret, id string) {
	t.Helper()
	if p.Workspace == "" {
		p.Workspace = "ours"
	}
	if p.Scope == "" {
		p.Scope = token.ScopeWrite
	}
	secret, id, err := token.Create(t.Context(), b.db, b.mint, p)
	require.NoError(t, err)
	return secret, id
}

func (b *testBundle) count(t *testing.T, table string) (n int) {
	t.Helper()
	require.NoError(t, b.db.Raw(`SELECT count(*) FROM `+table).Scan(&n).Error)
	return n
}

// refusal is the error for a secret that lets nobody in.
func (b *testBundle) refusal(t *testing.T, secret string) *api.Error {
	t.Helper()
	caller, err := token.Authenticate(t.Context(), b.db, secret)
	require.Empty(t, caller)
	var e *api.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, api.CodeUnauthenticated, e.Code)
	return e
}

func (b *testBundle) requireRefused(t *testing.T, secret string) {
	t.Helper()
	require.Equal(t, api.CodeUnauthenticated, b.refusal(t, secret).Code)
}

func TestATokenSaysWhoHoldsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, scope := range []string{token.ScopeRead, token.ScopeWrite} {
		secret, id := b.create(t, token.Params{Scope: scope})
		caller, err := token.Authenticate(t.Context(), b.db, secret)
		require.NoError(t, err)
		require.Equal(t, id, caller.TokenID)
		require.Equal(t, scope, caller.Scope)
		require.False(t, caller.WorkspaceID.IsZero())
	}
	require.Equal(t, 1, b.count(t, "workspaces"))
}

func TestTokensOfOneNameShareAWorkspaceAndOthersDoNot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	workspaceOf := func(name string) api.ID {
		secret, _ := b.create(t, token.Params{Workspace: name})
		caller, err := token.Authenticate(t.Context(), b.db, secret)
		require.NoError(t, err)
		return caller.WorkspaceID
	}
	require.Equal(t, workspaceOf("ours"), workspaceOf("ours"))
	require.NotEqual(t, workspaceOf("ours"), workspaceOf("theirs"))
	require.NotEqual(t, workspaceOf("ours"), workspaceOf("OURS"))
}

func TestSecretsAreLongAndNeverRepeat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[string]bool{}
	for range 20 {
		secret, _ := b.create(t, token.Params{})
		require.Regexp(t, `^roost_[A-Za-z0-9_-]{43}$`, secret)
		require.False(t, seen[secret])
		seen[secret] = true
	}
}

// The dump is of everything: a secret that were kept anywhere would show.
func TestTheDatabaseHoldsOnlyTheHashOfASecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, _ := b.create(t, token.Params{})
	given, _ := b.create(t, token.Params{Secret: "canary-0123456789"})
	var dump string
	require.NoError(t, b.db.Raw(`SELECT string_agg(t::text, '') || (SELECT string_agg(w::text, '') FROM workspaces w)
		FROM tokens t`).Scan(&dump).Error)
	for _, s := range []string{secret, given} {
		require.NotContains(t, dump, s)
		require.NotContains(t, dump, hex.EncodeToString([]byte(s)), "bytea shows as hex")
		require.NotContains(t, dump, strings.TrimPrefix(s, "roost_"))
		sum := sha256.Sum256([]byte(s))
		require.Contains(t, dump, hex.EncodeToString(sum[:]))
	}
}

func TestWhoIsRefusedDoesNotLearnWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	valid, _ := b.create(t, token.Params{})
	expired, _ := b.create(t, token.Params{TTL: time.Microsecond})
	revoked, id := b.create(t, token.Params{})
	require.NoError(t, token.Revoke(t.Context(), b.db, id))
	sum := sha256.Sum256([]byte(valid))
	want := b.refusal(t, "unknown")
	for name, secret := range map[string]string{
		"none": "", "expired": expired, "revoked": revoked, "cut short": valid[:len(valid)-1], "longer": valid + "x",
		"another case": strings.ToUpper(valid), "with a space": " " + valid, "its hash": string(sum[:]),
		"its hash in hex": hex.EncodeToString(sum[:]), "an ID": id, "SQL": `' OR true --`, "NUL": "a\x00b", "no UTF-8": "\xff",
	} {
		require.Equal(t, want, b.refusal(t, secret), name)
	}
	_, err := token.Authenticate(t.Context(), b.db, valid)
	require.NoError(t, err)
}

func TestARevocationHoldsAtOnceAndForThatTokenAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, id := b.create(t, token.Params{})
	other, _ := b.create(t, token.Params{})
	for range 3 { // twice is no error
		_, err := token.Authenticate(t.Context(), b.db, other)
		require.NoError(t, err)
		require.NoError(t, token.Revoke(t.Context(), b.db, id))
		b.requireRefused(t, secret)
	}
}

func TestTheFirstRevocationIsTheOneThatIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, id := b.create(t, token.Params{})
	require.NoError(t, token.Revoke(t.Context(), b.db, id))
	first, err := token.List(t.Context(), b.db)
	require.NoError(t, err)
	require.NoError(t, token.Revoke(t.Context(), b.db, id))
	second, err := token.List(t.Context(), b.db)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.NotNil(t, first[0].RevokedAt)
}

func TestThereIsNothingToRevokeOfAnUnknownToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, _ := b.create(t, token.Params{})
	for _, id := range []string{"", "unknown", "%", secret} {
		require.Error(t, token.Revoke(t.Context(), b.db, id))
	}
	_, err := token.Authenticate(t.Context(), b.db, secret)
	require.NoError(t, err)
}

func TestATokenExpiresByPostgresClock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, id := b.create(t, token.Params{TTL: time.Hour})
	infos, err := token.List(t.Context(), b.db)
	require.NoError(t, err)
	require.InDelta(t, time.Hour.Seconds(), infos[0].ExpiresAt.Sub(infos[0].CreatedAt).Seconds(), 1)
	_, err = token.Authenticate(t.Context(), b.db, secret)
	require.NoError(t, err)

	// now() stands still in a transaction: what expired after BEGIN is valid
	// in it, whatever the application's own clock says.
	tx := b.db.Begin()
	defer tx.Rollback()
	require.NoError(t, tx.Exec(`SELECT 1`).Error)
	require.NoError(t, b.db.Exec(`UPDATE tokens SET expires_at = clock_timestamp() WHERE id = ?`, id).Error)
	_, err = token.Authenticate(t.Context(), tx, secret)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback().Error)
	b.requireRefused(t, secret)
}

func TestATokenWithoutTTLDoesNotExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, token.Params{})
	infos, err := token.List(t.Context(), b.db)
	require.NoError(t, err)
	require.Nil(t, infos[0].ExpiresAt)
}

func TestCreateRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, p := range map[string]token.Params{
		"no workspace":                {Scope: token.ScopeWrite},
		"a long workspace":            {Workspace: strings.Repeat("w", 64), Scope: token.ScopeWrite},
		"no scope":                    {Workspace: "ours"},
		"an unknown scope":            {Workspace: "ours", Scope: "admin"},
		"a time in the past":          {Workspace: "ours", Scope: token.ScopeWrite, TTL: -time.Hour},
		"a time that rounds to never": {Workspace: "ours", Scope: token.ScopeWrite, TTL: time.Nanosecond},
	} {
		secret, id, err := token.Create(t.Context(), b.db, b.mint, p)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "create token", "%s: it is not left to the database", name)
		require.Empty(t, secret+id, name)
	}
	require.Zero(t, b.count(t, "tokens"))
	require.Zero(t, b.count(t, "workspaces"))
	b.create(t, token.Params{Workspace: strings.Repeat("w", 63)})
}

func TestASecretThatIsGivenAgainKeepsItsToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := token.Params{Secret: "canary-0123456789"}
	secret, id := b.create(t, p)
	require.Equal(t, p.Secret, secret)
	again, sameID := b.create(t, p)
	require.Equal(t, secret, again)
	require.Equal(t, id, sameID)
	require.Equal(t, 1, b.count(t, "tokens"))
}

func TestASecretOfAnotherWorkspaceIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, id := b.create(t, token.Params{Secret: "canary-0123456789"})
	_, _, err := token.Create(t.Context(), b.db, b.mint, token.Params{
		Workspace: "theirs", Scope: token.ScopeWrite, Secret: secret,
	})
	require.ErrorContains(t, err, "another workspace")
	require.NotContains(t, err.Error(), secret)
	require.Equal(t, 1, b.count(t, "workspaces"), "nothing was done")
	caller, err := token.Authenticate(t.Context(), b.db, secret)
	require.NoError(t, err)
	require.Equal(t, id, caller.TokenID)
}

func TestARevokedSecretDoesNotComeBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, id := b.create(t, token.Params{Secret: "canary-0123456789"})
	require.NoError(t, token.Revoke(t.Context(), b.db, id))
	_, _, err := token.Create(t.Context(), b.db, b.mint, token.Params{
		Workspace: "ours", Scope: token.ScopeWrite, Secret: secret,
	})
	require.ErrorContains(t, err, "revoked")
	b.requireRefused(t, secret)
}

func TestFiftyAtOnceMakeOneWorkspace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secrets, errs := b.fifty(t, token.Params{Workspace: "new", Scope: token.ScopeRead})
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, 1, b.count(t, "workspaces"))
	require.Equal(t, 50, b.count(t, "tokens"))
	workspaces := map[api.ID]bool{}
	for _, secret := range secrets {
		caller, err := token.Authenticate(t.Context(), b.db, secret)
		require.NoError(t, err)
		workspaces[caller.WorkspaceID] = true
	}
	require.Len(t, workspaces, 1)
}

func TestFiftyAtOnceWithOneSecretMakeOneToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, errs := b.fifty(t, token.Params{Workspace: "new", Scope: token.ScopeRead, Secret: "canary-0123456789"})
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, 1, b.count(t, "workspaces"))
	require.Equal(t, 1, b.count(t, "tokens"))
}

func (b *testBundle) fifty(t *testing.T, p token.Params) (secrets []string, errs []error) {
	t.Helper()
	secrets, errs = make([]string, 50), make([]error, 50)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range secrets {
		wg.Go(func() {
			<-start
			secrets[i], _, errs[i] = token.Create(t.Context(), b.db, b.mint, p)
		})
	}
	close(start)
	wg.Wait()
	return secrets, errs
}

func TestListShowsEveryTokenOldestFirstAndNoSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	empty, err := token.List(t.Context(), b.db)
	require.NoError(t, err)
	require.Empty(t, empty)
	_, first := b.create(t, token.Params{Workspace: "b", Scope: token.ScopeRead})
	_, second := b.create(t, token.Params{Workspace: "a", TTL: time.Hour})
	infos, err := token.List(t.Context(), b.db)
	require.NoError(t, err)
	require.Len(t, infos, 2)
	require.Equal(t, []string{first, second}, []string{infos[0].ID, infos[1].ID})
	require.Equal(t, []string{"b", "a"}, []string{infos[0].Workspace, infos[1].Workspace})
	require.Equal(t, []string{"read", "write"}, []string{infos[0].Scope, infos[1].Scope})
	require.Nil(t, infos[0].ExpiresAt)
	require.NotNil(t, infos[1].ExpiresAt)
	require.Nil(t, infos[0].RevokedAt)
	require.WithinDuration(t, time.Now(), infos[0].CreatedAt, time.Minute)
}

// 401 would tell a client that its token is bad.
func TestAFailureOfTheDatabaseIsNotAnUnknownToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, id := b.create(t, token.Params{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, authErr := token.Authenticate(ctx, b.db, secret)
	_, listErr := token.List(ctx, b.db)
	_, _, createErr := token.Create(ctx, b.db, b.mint, token.Params{Workspace: "ours", Scope: token.ScopeRead})
	for _, err := range []error{authErr, listErr, createErr, token.Revoke(ctx, b.db, id)} {
		require.ErrorIs(t, err, context.Canceled)
		var e *api.Error
		require.False(t, errors.As(err, &e), "%v", err)
		require.NotContains(t, err.Error(), secret)
	}
}

func TestStatementsThatFailAreErrors(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		`ALTER TABLE workspaces ADD CHECK (name <> 'ours')`,
		`ALTER TABLE workspaces DROP COLUMN name CASCADE`,
		`ALTER TABLE tokens ADD CHECK (scope <> 'write')`,
		`ALTER TABLE tokens DROP COLUMN revoked_at`,
		`DROP TABLE tokens`,
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, b.db.Exec(statement).Error)
			_, _, err := token.Create(t.Context(), b.db, b.mint, token.Params{Workspace: "ours", Scope: token.ScopeWrite})
			if strings.Contains(statement, "revoked_at") {
				require.NoError(t, err, "the INSERT does not name it")
				return
			}
			require.ErrorContains(t, err, "create token")
			require.Zero(t, b.count(t, "workspaces"), "nothing is left of it")
		})
	}
}
