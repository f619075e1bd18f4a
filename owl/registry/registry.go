package registry

import (
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models/pg"
)

// retryAfter is what callers are told when the database is away.
const retryAfter = time.Second

// Registry is the kept desired state. It is safe for concurrent use, by any
// number of processes over one database.
type Registry struct {
	db   *gorm.DB
	wake func()
}

// New makes a Registry. wake is called after each change that gives the
// provisioner something to do; losing a call delays that work and no more.
func New(db *gorm.DB, wake func()) *Registry { return &Registry{db: db, wake: wake} }

// coded says what a database error means to a caller: UNAVAILABLE where the
// same request may succeed later, otherwise an error without a code.
func coded(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", doing, err)
	var known *api.Error
	if errors.As(err, &known) || !pg.IsTransient(err) {
		return err
	}
	return &api.Error{
		Code: api.CodeUnavailable, RetryAfter: retryAfter, Err: err,
		Detail: "the database did not answer in time. Sending the same request again is safe.",
	}
}

// neverSeen is the 404 for an ID of the given kind.
func neverSeen(what string, id api.ID) error {
	return api.Errorf(api.CodeNotFound, "there is no %s %s and never was.", what, id)
}
