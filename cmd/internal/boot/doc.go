// Package boot is what every binary of Roost does before and after its work:
// signals, configuration, logging, the HTTP server's limits and exit codes.
//
// It promises that a configuration is checked whole before anything starts and
// that every fault in it is named by its variable; that no secret is ever
// printed, in a value or in an error; that a server is bounded in every
// direction a client can push it; and that a first signal ends the process in
// order and a second one at once. It never decides what a service does.
//
//	main ──▶ Main ──▶ realMain(ctx, args, stdout, stderr) error
//	          │            │ flags ▶ environment ▶ defaults, then Decode
//	          │            │ Listen, OpenDatabase, then Serve:
//	          │            ▼
//	          │      ┌───────────┐ signal   ┌──────────┐ answered or 15 s ┌────────────┐
//	          │      │  serving  │─────────▶│ draining │─────────────────▶│ loops stop │─▶ nil
//	          │      └───────────┘          └──────────┘                  └────────────┘
//	          ▼
//	 exit code 0, 1 (failure, invalid configuration), 2 (usage)
//
// # Failure
//
// A loop or a listener that ends by itself ends the process with its error:
// whoever supervises it starts a whole one again. Work that is cut off by a
// signal is safe to lose, because callers repeat and the rows are the queue.
package boot
