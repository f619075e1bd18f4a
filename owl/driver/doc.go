// Package driver is the seam between Owl and what runs machines.
//
// It promises, of every driver that passes drivertest, that each call may be
// repeated, delayed, interrupted and made by two processes at once, and that
// the machine named by an ID is made at most once, ever. A driver never
// decides what a machine should be; it is told, under a generation.
//
// # One machine, as its driver sees it
//
//	            Ensure(g)                  Ensure(g' >= g)
//	unknown ───────────────▶ present(g) ───────────────▶ present(g')
//	   │                        │    ▲ Ensure(older than g): ErrStale,
//	   │ Remove                 │    ╰─ nothing done
//	   ▼                        ▼ Remove
//	removed ◀───────────────────╯
//	   ╰─ Ensure: ErrRemoved, for ever;  Remove: nothing to do
//
// present holds the newest generation that the driver accepted, from the
// moment it accepted it and not from when the work was done: an older Ensure
// that is still waiting for a machine to boot learns that it is stale.
//
// # Failure
//
// The caller is killed inside a call: the driver's state is what it was or
// what it would have been, and the same call again finishes the work without
// doing any effect twice.
//
// The caller is frozen before a call and thaws much later: the generation, or
// the tombstone that Remove leaves, refuses it. That is why both live in the
// driver and not only in Owl's database.
//
// A machine cannot be had at all: the error is a *Failure. It is final for
// its generation; a newer one may try again. Every other error says nothing
// about the machine, and the caller repeats the call.
package driver
