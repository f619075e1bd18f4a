package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
)

// ErrCommitUnknown says that nobody knows whether the transaction was
// committed. See the package comment for what to do then.
var ErrCommitUnknown = errors.New("commit: outcome unknown")

// InTx runs fn in one READ COMMITTED transaction and commits when fn returns
// nil. An error of fn comes back as it is, after a rollback; so does a panic.
// fn must use tx alone: in a pool of one the outer db would wait for ever. InTx
// does not nest.
func InTx(ctx context.Context, db *gorm.DB, fn func(tx *gorm.DB) error) error {
	if _, nested := db.Statement.ConnPool.(gorm.TxCommitter); nested {
		return errors.New("begin: already in a transaction")
	}
	tx := db.Session(&gorm.Session{NewDB: true, Context: ctx}).Begin(&sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if tx.Error != nil {
		return fmt.Errorf("begin: %w", tx.Error)
	}
	conn, ok := tx.Statement.ConnPool.(gorm.TxCommitter)
	if !ok {
		return fmt.Errorf("begin: %T is no transaction", tx.Statement.ConnPool)
	}
	finished := false
	// Deferred, so that a panic and a Goexit, as of t.FailNow, roll back too. A
	// rollback that fails has lost its connection, which rolls back as well.
	defer func() {
		if !finished {
			_ = conn.Rollback()
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		// COMMIT was never sent, so this outcome is certain.
		return fmt.Errorf("commit: %w", err)
	}
	finished = true
	return commitResult(conn.Commit())
}

// commitResult keeps apart "the server refused" and "nobody knows". The second
// is the default: to take a refusal for unknown costs one repetition, to take
// an unknown for a refusal costs a duplicate.
func commitResult(err error) error {
	switch {
	case err == nil:
		return nil
	case refusedByServer(err):
		return fmt.Errorf("commit: %w", err)
	default:
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
}

func refusedByServer(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	answer := serverError(err)
	// FATAL and PANIC end the session, and may arrive after the commit record
	// was written.
	return answer != nil && answer.SeverityUnlocalized == "ERROR"
}
