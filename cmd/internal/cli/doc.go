// Package cli is the roost command: people's and scripts' way to the public
// API.
//
// It promises that
//   - stdout carries data alone; progress, notes and errors go to stderr,
//   - a change has its Idempotency-Key before its first attempt, and whenever
//     its outcome is unclear, stderr shows the exact command that repeats it,
//     key included: a shell that runs it does the change once,
//   - exit codes are those of ExitCodes, and stay,
//   - no token and no encrypted_env is printed, traced or put into a command to
//     repeat.
//
// It sees roost/api and roost/api/client and nothing else of Roost, keeps no
// state in variables of the package, and reaches its process (streams, clock,
// environment, directories) only through Env.
//
// # Failure
//
//	         flags, file, names          request out            --wait
//	command ───────────────────▶ key ───────────────▶ accepted ────────▶ ended
//	   │                              │  │                │               │
//	   ▼ 2, 3, 7                      │  ▼ 6 unclear      ▼ 9 not seen    ▼ 8 failed
//	nothing done                      ▼  repeat command   op get --wait   operation's error
//	                           3 4 5 7 refused
//
// Every error passes through report (failure.go), which says what happened,
// whether repeating is safe, what to do, and the request ID.
package cli
