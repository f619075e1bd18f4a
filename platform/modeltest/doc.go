// Package modeltest is what Platform may answer, as a model: one workspace's
// keys, CVMs and operations in memory, without a database, a clock or a wire.
//
// It promises that an answer which contradicts the contract is an error, also
// where the contract leaves the system a choice, because machines and time go
// on beside the requests: then it takes each of the answers that are allowed,
// and follows the one that was given. It never sends anything and knows no
// test framework: whoever drives a system (a property test, a fault test, the
// chaos harness) hands it each request with its answer, in an order in which
// the system can have done them, and at the end what is there at rest.
//
// # One key
//
//	free ── accepted ──▶ bound ── Expire ──▶ expired ── its operation has ended ──▶ free
//	                     same request: the same IDs · another: IDEMPOTENCY_KEY_REUSED
//
// # One CVM
//
//	create, replicate, scale ──▶ live ── power, patch: one generation more ──▶ live
//	live ── delete, scale ──▶ deleting: takes nothing but DELETE ──▶ gone, for ever
//
// # Failure
//
// A model that has returned an error is out of step: begin again with a new one.
package modeltest
