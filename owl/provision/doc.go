// Package provision brings machines in line with the registry, through a
// driver.
//
// It promises that whatever the registry asks for is done, or fails for good
// and says so, however often processes die on the way; and that a process which
// slept through its turn changes nothing. It decides nothing: it takes no
// input but rows and writes nothing but how far they are. It keeps no queue
// either: a row that is not what it should be is due, by a CHECK constraint.
//
// # One row
//
//	           POST, PUT, DELETE              claim: fence + 1,
//	at rest ────────────────────▶ due ─────────────────────────────▶ claimed
//	due_at null                   due_at <= now()                    due_at = now() + lease
//	   ▲                           ▲  ▲                                │  │  │
//	   │                           │  ╰── lease ran out; POST-PUT-race ╯  │  │
//	   │                           ╰───── error: backoff ─────────────────╯  │
//	   ╰────── result, WHERE fence = mine and nothing newer was asked for ───╯
//
// A claim is one UPDATE over rows FOR UPDATE SKIP LOCKED; any number of Owls
// take turns. What a claim found is handed to the driver under its generation:
//
//	deletion was requested → Remove  → deleted_at is set, for the CVM's rules too
//	else                   → Ensure  → observed_generation, running or stopped
//	                                   a *driver.Failure: failed, at that generation
//
// The result is computed from the row as it is then, not as it was claimed: if
// a newer generation or a deletion came meanwhile, the row stays due. A PUT or
// DELETE makes a claimed row due at once; the claim that follows calls off the
// older work if it runs in this process, and overtakes it if it does not.
//
// Firewall rules go the same way through a queue of their own. They become due
// with the first observation of their machine.
//
// # Failure
//
// Killed while claimed: the lease runs out and somebody claims again. The
// driver's calls may be repeated, so no effect happens twice.
//
// Frozen after its claim and thawed much later: the driver refuses its older
// generation, or its Ensure after Remove, and the result meets another fence.
// The lease therefore only saves work; nothing is unsafe when it runs out, and
// while work goes on it is prolonged so that long boots are not begun twice.
//
// The result cannot be written: as if killed.
//
// A panic, of the driver over one machine or in what surrounds it, ends that
// piece of work and nothing else: the row waits for its backoff or lease.
//
// Work that is lost in spite of all this, by a driver's host or by a restored
// database, is found by comparing the driver's List with the registry at the
// start and once a minute: machines of deleted CVMs are removed, those that
// differ or are missing become due, and machines nobody ever asked for are
// counted and left alone. A row that is behind its driver (Owl's database was
// restored) is refused as stale until its caller, who compares too, has pushed
// it forward. If the caller's database went back with it nobody does: such a CVM
// follows again once it was changed more often than its machine has seen.
//
// No crash, frozen process or lost answer waits for that comparison: between a
// driver's effect and its result the row is due, by its lease. What only the
// comparison finds is what befell the host behind Owl's back. It takes a minute,
// and not lease + longest backoff + 5 s as everything else.
//
// A connection to the database that dies in silence is given up after 5 s, and
// so is what was under way on it.
package provision
