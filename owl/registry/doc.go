// Package registry keeps what Owl was asked for: one row a resource, filed
// under the ID that the caller chose before asking.
//
// It promises that an ID is created at most once, ever; that a create may be
// repeated and delayed without limit; that a change is applied only if it is
// newer than what is there; and that an ID which was deleted, even before it
// was created, never comes back while its tombstone lives. It never talks to a
// machine (package provision does) and never keeps a second copy of a spec.
//
// # One ID
//
//	             POST: Created                   PUT, newer: applied
//	(no row) ──────────────────▶ live ◀────────────────────────────────╮
//	   │                          │ ├── POST, same request: Existing    │
//	   │                          │ ├── POST, another one:  Conflict    │
//	   │                          │ ├── PUT, older or equal: unchanged  │
//	   │                          │ ╰──────────────────────────────────╯
//	   │ DELETE: 204              │ DELETE: 204
//	   ▼                          ▼                    machine is gone
//	deleting (delete_requested_at set) ───────────────────────────▶ deleted (deleted_at set)
//	   ╰─ POST, PUT, GET, DELETE: Gone, 410                             │  ╰─ the same
//	                                                                    ▼
//	                                       tombstone lifetime later: (no row)
//
// A tombstone is the same row with delete_requested_at set. For an ID that was
// never seen it is planted with generation 0 and nothing else in it; the same
// way through the provisioner then makes the driver refuse that ID too.
//
// # One statement each
//
// Insert is one INSERT … ON CONFLICT (id) DO NOTHING; whether a row came back
// decides, and the winner's row is read in the next statement, because the
// same one cannot see it. PUT is one UPDATE with the generation in its WHERE.
// DELETE is one INSERT … ON CONFLICT (id) DO UPDATE; update-then-insert would
// race a late POST. None of them waits for anything but the row, and each may
// run twice.
//
// Firewall rules live under a CVM. Their INSERT selects from the CVM's row FOR
// SHARE, so it either commits before the CVM's deletion begins, which then
// takes the rule along, or finds no live CVM. Locks are taken CVM first.
//
// # Comparison
//
// A repeated create is compared with the request that made the row, never with
// the row's present state. That request is kept as create_digests, JSON pointer
// → digest of each leaf (package jsondiff): it can name what differs, and holds
// no secret. Null is absent in the request's own members, and a value like any
// other inside spec.
//
// # Failure
//
// The caller never hears the answer, or hears 503: it sends the same again and
// finds Existing, unchanged or Gone. No statement's outcome needs to be known.
//
// A tombstone is reaped after its lifetime, so a POST that is delayed for
// longer creates the ID anew: the lifetime must be far longer than any retry.
// An INSERT that loses to a tombstone which is reaped before it can be read
// tries again.
package registry
