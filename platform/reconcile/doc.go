// Package reconcile brings Owl in line with Platform's rows.
//
// It promises that whatever was accepted reaches Owl, however often either
// side dies, and reaches it as one resource per ID: it sends the create
// request that was stored when it was accepted, the same every time, and Owl
// inserts it if absent. It never takes a request, never mints an ID, never
// holds a transaction open across the network, and never gives up on an
// unknown outcome.
//
// The row is the queue. A row whose reconcile_after has passed is due; first
// try, retry, recovery after a crash and repair are this one path:
//
//	           ┌─────────────────────────── unknown: backoff ──────────────┐
//	           ▼                                                           │
//	accepted: due ── claim (lease, fence+1) ──▶ POST stored request ── Owl's answer
//	           ▲                                                           │
//	           │ missing at Owl                               201, 200     │   400 409 410 413
//	           │                                                           ▼         │
//	           └────────────────── watched ◀──────────────────────── confirmed       ▼
//	                                  │ GET ?ids= about every 50 ms               failed
//	                                  ▼
//	                  generation observed: at rest, operation ended
//
// A claim does the first thing that the row lacks, and only that (see
// claimed.missing), so the picture is the same with another verb:
//
//	deletion not confirmed        DELETE   204 410: confirmed; no POST or PUT after it
//	create not confirmed          POST     the stored request, whatever changed since
//	generation above the pushed   PUT      200: pushed, or behind if Owl holds another
//	nothing but its observation   GET      by the watch below
//
// Firewall rules go the same way by a shorter road: see rule.go.
//
// # Claims
//
// A claim moves reconcile_after out by the lease and counts fence up, by
// Postgres' clock, oldest first, skipping what others have claimed. The lease
// only saves work: a result counts WHERE fence is the claimed one, and what it
// leaves due is computed from the row as it is then, so that a change accepted
// meanwhile stays due. A worker that was frozen and thaws changes nothing.
// CVMs are locked by ascending ID and before operations, as in platform/fleet.
//
// # Status
//
// Reading status claims nothing. The node that pushed a CVM watches it until
// its generation is observed; reconcile_after is the net under it: a node that
// dies leaves rows that fall due when the lease ends, and the claimer watches
// them. Observed generations only grow, until Owl turns out to have lost the CVM,
// and never beyond what was pushed: the same number may name something else
// there, after a restore. 20,000 CVMs are watched at most; one that loses its
// place is watched again when its lease ends.
//
// # Restores
//
// A side that comes from an older backup has forgotten generations, and that is
// how it is known; the sweeper of platform/maintenance looks for it in rows at
// rest and makes them due. Owl without the CVM: POST and PUT again. Owl with a
// lower generation than was pushed: PUT again. Owl with a higher one than the
// row's: the row is behind, and moves on to one above Owl's, with the operations
// that wait for it. Deleted here and not there: DELETE again, while clients see
// it deleted all along. Deleted there and not here: failed, never made again.
//
// # Failure
//
// What Owl's answers mean stands in judge.go, and nowhere else. Every outcome
// that is not definite is unknown, and unknown means: the same again, later. A
// panic is unknown too, and of that row alone: rows that shared a request or a
// transaction with it are then done one by one.
//
// Each call and each statement has a deadline of its own: a connection that dies
// in silence is given up after seconds, and what was claimed over it waits out
// its lease.
//
// While Owl answers nobody, rows are left in the queue but for a probe a
// second, see silence.go; so the oldest go first when it is back.
package reconcile
