// Package pglocal runs a Postgres server from the binaries of this machine, as
// a child of the calling process.
//
// It promises a server that listens on 127.0.0.1 alone, asks everyone for a
// password, keeps its data in one directory, and ends when the caller ends,
// however the caller ends. It never uses a Unix socket, never trusts a
// connection for where it comes from, never runs Postgres as root and never
// touches a Postgres that it did not start in that directory.
//
//	             Start
//	               │  lock the directory        held by another process: error
//	               ▼
//	┌──────────────────────┐  postmaster of a killed run still alive: stop it
//	│ directory is ours    │  half-made cluster: remove it
//	└──────────┬───────────┘
//	           │ initdb aside, rename to data            (first time only)
//	           ▼
//	┌──────────────────────┐  port taken, old backends still leaving:
//	│ postgres launched    │◀─┐ launch again until StartTimeout
//	└──────────┬───────────┘──┘
//	           │ accepts our password
//	           ▼
//	┌──────────────────────┐  Postgres dies: Done is closed; the owner calls
//	│ serving              │─────────────▶ Stop, then Start on the same data
//	└──────────┬───────────┘
//	           │ Stop: fast shutdown, then harder
//	           ▼
//	   lock released, watchdog gone
//
// # Directory
//
//	DataDir/lock          flock held while a Server is open
//	DataDir/password      of the superuser "roost", mode 0600
//	DataDir/port          the port of last time, used again if it is free
//	DataDir/cluster/      owned by the account that Postgres runs as
//	DataDir/cluster/data  PGDATA
//
// # Root
//
// Postgres refuses to run as root, so a root caller hands it to the user
// postgres, or nobody where there is none; only DataDir/cluster belongs to that
// user. The directories above may be closed to it (a clone under /root, a
// mktemp -d): on Linux Postgres is given the open directory as a file
// descriptor and PGDATA is /proc/self/fd/3/data, which needs no permission on
// the parents.
//
// # Failure
//
// The caller is killed: a watchdog, a shell that waits for the end of a pipe
// that only the caller holds open, sends Postgres an immediate shutdown. Should
// the watchdog be killed as well, the next Start finds the leftover postmaster
// through its pid file and its working directory, and stops it.
//
// Postgres is killed: Done is closed. Its backends notice by themselves; Start
// launches again until they have gone, and Postgres replays its log. A pid file
// whose number now belongs to some other process does not stop it.
//
// Start is killed inside initdb: the cluster becomes visible by one rename, so
// the next Start begins afresh.
//
// Two owners at once: the second gets ErrInUse and changes nothing.
package pglocal
