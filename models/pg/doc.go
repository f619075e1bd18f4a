// Package pg opens Postgres the one way that Roost opens it, runs transactions,
// and tells apart what can go wrong in them.
//
// It promises that every session reads committed data only, gives up on a lock,
// a statement or an idle transaction after a fixed time, and speaks UTC; that no
// value bound to a statement reaches a log; and that InTx either commits, or
// does not, or says that it cannot tell. It never repeats anything: whoever
// knows that a transaction may run twice does that.
//
//	          BEGIN              fn returns nil          server says COMMIT
//	InTx ──────────────▶ open ───────────────▶ committing ───────────────▶ nil
//	  │ cannot              │ error, panic,        │ server says ROLLBACK,
//	  ▼                     │ Goexit, ctx ended    │ or an ERROR
//	error               rolled back ◀──────────────┤
//	                                               │ anything else
//	                                               ▼
//	                                        ErrCommitUnknown
//
// # Failure
//
// ErrCommitUnknown means that COMMIT went out and no answer came in: the
// connection broke, time ran out, the server was shut down. The transaction may
// be there, may not, and may appear later than a read that looks for it; the
// way out is to run the same transaction again with the same IDs.
//
// An fn that swallows the error of a statement gets an error from COMMIT,
// because Postgres then answers ROLLBACK: nothing is half done.
//
// When ctx ends inside fn, the connection is dropped and Postgres rolls back.
// Callers who must not be interrupted give a context that is not a request's.
package pg
