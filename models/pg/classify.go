package pg

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// The SQLSTATEs that code speaks of by name, from appendix A of Postgres'
// manual.
const (
	stateUniqueViolation      = "23505"
	stateSerializationFailure = "40001"
	stateDeadlock             = "40P01"
	stateLockNotAvailable     = "55P03"
	stateQueryCanceled        = "57014"
	stateIdleSessionTimeout   = "57P05"
	stateIdleInTxTimeout      = "25P03"
)

// Classes of SQLSTATEs, their first two or three characters.
const (
	classConnection = "08"
	classResources  = "53"  // too many connections, disk full, out of memory
	classShutdown   = "57P" // shut down, starting up, recovering
	classSystem     = "58"  // I/O errors below Postgres
)

// IsLockTimeout reports that a wait for a lock ended at lock_timeout.
func IsLockTimeout(err error) bool {
	return hasState(err, stateLockNotAvailable)
}

// IsDuplicate reports that a row exists already under a unique key.
func IsDuplicate(err error) bool {
	return errors.Is(err, gorm.ErrDuplicatedKey) || hasState(err, stateUniqueViolation)
}

// Constraint names the constraint that err is about, "" if none.
func Constraint(err error) string {
	if answer := serverError(err); answer != nil {
		return answer.ConstraintName
	}
	return ""
}

// IsTransient reports that the request itself was not refused: the database was
// busy, away, or did not answer in time, and the same may succeed later. It
// does not say that nothing was done; see ErrCommitUnknown, which is transient.
func IsTransient(err error) bool {
	if err == nil {
		return false
	}
	if answer := serverError(err); answer != nil {
		return transientState(answer.Code)
	}
	return errors.Is(err, ErrCommitUnknown) || lostConnection(err)
}

func transientState(state string) bool {
	switch state {
	case stateSerializationFailure, stateDeadlock, stateLockNotAvailable, stateQueryCanceled,
		stateIdleSessionTimeout, stateIdleInTxTimeout:
		return true
	}
	for _, class := range []string{classConnection, classResources, classShutdown, classSystem} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// lostConnection covers what the driver, the pool and the network say, each in
// its own words. A context that ended stands for a wait that was too long.
func lostConnection(err error) bool {
	for _, sign := range []error{
		context.DeadlineExceeded, context.Canceled,
		driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone, pgx.ErrTxClosed,
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, sign) {
			return true
		}
	}
	var (
		connect *pgconn.ConnectError
		network net.Error
	)
	return errors.As(err, &connect) || errors.As(err, &network) ||
		pgconn.SafeToRetry(err) || pgconn.Timeout(err)
}

func serverError(err error) *pgconn.PgError {
	answer, _ := errors.AsType[*pgconn.PgError](err)
	return answer
}

func hasState(err error, state string) bool {
	answer := serverError(err)
	return answer != nil && answer.Code == state
}
