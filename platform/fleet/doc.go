// Package fleet is what Platform can do: make, change, scale, delete and read
// apps, provisions, CVMs and firewall rules. An exported method that changes something is one
// transaction; unexported functions take its tx.
//
// It promises that a request is either accepted whole (key, resources,
// operation and counters in one commit) or leaves no trace; that a request
// with a key is accepted once however often it is sent; and that every ID of a
// resource is minted here and nowhere else. It never talks to Owl: what is
// accepted is due in the rows themselves, and platform/reconcile finds it.
//
// # Accepting
//
//	mint IDs ─▶ pass the gate of the key
//	    ┌──▶ BEGIN
//	    │      claim the key ── bound already ──▶ read what it names, COMMIT, replay
//	    │      lock the app, check parents and state
//	    │      count against the quota
//	    │      insert resources, operation, targets
//	    │      read the answer
//	    │    COMMIT ── acknowledged ──▶ wake the reconciler, answer
//	    └────────── unknown: the same again with the same IDs
//
// Locks are taken in one order everywhere: key, app, workspace, CVMs by
// ascending ID, operations. The app's lock keeps two requests from changing
// one CVM; the reconciler, which takes none, shares only the last two.
//
// # Configuring
//
// A spec row never changes. A patch of one CVM, or of every CVM of an app,
// gives those it changes a new one, which copies share as they shared the old
// one; what is so already makes neither a row nor a generation. A provision
// keeps a spec until a commit uses it up: POST /cvms makes an app's first CVM
// of it, PATCH compose_file gives an app's CVMs its compose settings alone. A
// repeat of either finds the hash where the first one left it.
//
// # Failure
//
// An error before COMMIT: nothing was bound; transient ones are 503 and safe
// to repeat. A COMMIT without an answer may have happened or may still be
// happening, and a read that finds nothing proves nothing. So the same
// transaction runs again with the same IDs: its first lock waits for the one in
// doubt, then it either finds that one's operation or takes its place. When
// even that stays unclear the answer is 503, retryable if a key was given or
// the call is natural. After it begins, a request's work has its own context:
// a client that leaves cancels nothing.
package fleet
