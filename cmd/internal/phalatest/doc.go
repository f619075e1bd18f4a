// Package phalatest is a client of the Phala API as it was seen on the wire
// (the provider's v0.2.0 line: phala_app with replicas, phala_cvm_power and
// the data sources), with as much of Terraform around it as decides what is
// sent: a state, a refresh, a plan.
//
// It promises to send what that provider sends, in its order, with its headers
// and its two ways of building a URL; to read what it reads, with its types;
// to repeat only what it repeats (409, 429 and 503 on PATCH, DELETE, start,
// stop and the two provisions); and to give up where it gives up. A failed
// create writes no state. It never sends an Idempotency-Key, never looks at a
// member that the provider does not look at, and is no client to build on: the
// SDK is api/client.
//
//	Terraform.Apply ─▶ refresh ─▶ plan ─▶ create | update | replace | destroy ─▶ state
//	                     404: gone            first error: stop, keep what the provider keeps
//
// Its waits are those of the provider times Pace, so that tests take
// milliseconds where it takes seconds.
//
// # Failure
//
// A write whose answer is lost ends the apply, as every network error on a
// write does. KillAfter lets the client die right after a write was answered:
// nothing is sent and nothing is saved from then on. Applying again starts
// from the state that was left; what that does is what the tests are about.
package phalatest
