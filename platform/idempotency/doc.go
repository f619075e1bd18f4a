// Package idempotency remembers which request a key was first used for and
// what came of it, inside the caller's own transaction.
//
// It promises that of all requests under one (workspace, key) exactly one
// finds the key free until the key expires; that every other one learns what
// that one did, or which members differ; and that a request whose transaction
// rolls back has never used its key. It never runs work, never opens or ends a
// transaction, never stores a failure, and never keeps a value of a request:
// only digests of its members.
//
// # States
//
//	            Claim: INSERT … ON CONFLICT DO NOTHING
//	                           │
//	      1 row                │                0 rows
//	  ┌── the key is mine ◀────┴────▶ read it in the next statement ──┐
//	  │                                  │            │            │
//	  │                               alive        expired       gone (reaped)
//	  │                                  │            │            │
//	  │                     same map ────┤      UPDATE … WHERE     begin again
//	  │                     replay       │      expires_at <= now()
//	  │                     other map ───┘            │
//	  │                     409 REUSED        1 row: mine · 0 rows: read again
//	  ▼
//	work, then Rebind if the result was not known before ── COMMIT ──▶ bound
//	                                                     └─ ROLLBACK ─▶ free
//
// There is no "in progress" state to be left behind by a crash: a key whose
// transaction is open is locked by Postgres and by nothing else.
//
// # Waiting
//
// A second request blocks on the first one's row, for as long as the caller is
// ready to wait (lock_timeout, set by the claiming statement and set back by it
// when it claims; a transaction that found the key bound only reads). So
// that a hundred copies of one request do not hold a hundred connections, they
// first pass the Gate, which lets one per process through.
//
// # Failure
//
// The process dies: the transaction rolls back, the key is free. The answer is
// lost: the key is bound, a repeat replays. The acknowledgement of COMMIT is
// lost: the caller runs the same transaction again with the same IDs; Claim
// then waits for the one in doubt and finds it, with the caller's own request
// ID (Bound.RequestID), or takes its place.
//
// # Use in another service
//
// It needs the table of models.IdempotencyKey and a gorm transaction at READ
// COMMITTED: Gate.Enter, begin, Claim, work, Rebind where needed, commit.
package idempotency
