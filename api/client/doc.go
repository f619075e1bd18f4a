// Package client is the Go SDK of Roost's public API.
//
// It promises that one call is one wish: it has one Idempotency-Key, made
// before the first attempt and kept over every attempt, and whatever is lost on
// the way, the machine is made once and its answer found. The key is on the
// Result and on the Error, so that the wish can be repeated by another process.
// It never decides that something failed which may have been done: that is an
// Error of OutcomeUnknown.
package client
