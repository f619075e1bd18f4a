package pg_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/models/pg"
	"roost/models/pgtest"
)

// deadline is what a test waits for something that happens in milliseconds.
const deadline = 10 * time.Second

type testBundle struct {
	url string
	db  *gorm.DB
}

// setup makes a database with one table, notes(id, body).
func setup(t *testing.T) *testBundle {
	t.Helper()
	b := &testBundle{url: pgtest.Empty(t)}
	b.db = b.open(t, pg.Config{})
	require.NoError(t, b.db.Exec("CREATE TABLE notes (id bigint PRIMARY KEY, body text NOT NULL CONSTRAINT notes_body_key UNIQUE)").Error)
	return b
}

// open opens a further pool; the URL is the bundle's unless cfg has one.
func (b *testBundle) open(t *testing.T, cfg pg.Config) *gorm.DB {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = b.url
	}
	db, err := pg.Open(t.Context(), cfg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close(db)) })
	return db
}

func insert(tx *gorm.DB, id int, body string) error {
	return tx.Exec("INSERT INTO notes (id, body) VALUES (?, ?)", id, body).Error
}

func (b *testBundle) count(t *testing.T) int {
	t.Helper()
	var n int
	require.NoError(t, b.db.Raw("SELECT count(*) FROM notes").Scan(&n).Error)
	return n
}

// holdRow inserts row 1 and keeps its transaction open until release.
func (b *testBundle) holdRow(t *testing.T) (release func()) {
	t.Helper()
	held, let := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = pg.InTx(context.WithoutCancel(t.Context()), b.db, func(tx *gorm.DB) error {
			err := insert(tx, 1, "held")
			close(held)
			<-let
			return err
		})
	})
	<-held
	return sync.OnceFunc(func() {
		close(let)
		wg.Wait()
	})
}
