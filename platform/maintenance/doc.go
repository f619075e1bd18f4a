// Package maintenance removes what nobody needs any more, and finds where
// Platform and Owl differ although no request is under way.
//
// It promises that nothing is removed that a request could still ask for or
// name; that a row at rest which Owl lacks, has at another generation or has
// on one side only deleted becomes due; and that what Owl has and Platform has
// never heard of is recorded, told of once and left alone. It never repairs
// anything itself (a due row is platform/reconcile's one path), never decides
// about an orphan, and never makes a row of a resource.
//
// # Reapers
//
// About once a minute, each by itself, in statements of at most 1000 rows:
//
//	idempotency keys      expired, and their operation has ended or is gone
//	provisions            expired
//	specs                 nothing has referred to them for an hour; encrypted_env goes with them
//	CVMs, with rules      gone for the retention, and at rest
//	firewall rules        deleted for the retention, and at rest
//	operations            ended for the retention, and named by no CVM
//
// The retention is 30 days, and a day more than a key is kept if that is
// longer: whatever a living key names was kept when the key was bound or has
// ended since, so a replay always finds it. (This is so for one TTL; who
// shortens it from above 29 days keeps old keys that outlive what they name.)
//
// # Sweeps
//
//	                            ┌────────────── nothing ◀──────────────┐
//	                            ▼                                      │
//	start ─▶ sweep ─▶ wait 10 s ─▶ look: round, latest changes ── differ? due? ── yes ─▶ sweep
//	                            ▲                  │ no answer                           │
//	                            └──── failed ◀─────┴─────────────────────────────────────┤
//	                                    │ the next look that is answered: sweep          │
//	                                    └────────────────────────────────────────────────┘
//
// A sweep goes page by page, one at a time:
//
//	Platform ─▶ Owl    rows at rest, then Owl's ?ids=     differs: reconcile_after = now(),
//	                                                      if generation and rest are unchanged
//	Owl ─▶ Platform    Owl's page, then Platform's rows   alive there, unknown here: orphan
//	decisions          orphans marked for deletion        DELETE at Owl, then forgotten
//	the rest           orphans that this sweep has not seen are none any more
//
// Both orders matter. What is at rest has reached Owl before Owl is asked, and
// what changes meanwhile shows in its generation; a row commits before it is
// pushed, so what Owl had before Platform was asked is here or is an orphan.
// Deletions are compared for 7 days. What failed before Owl had it is not
// compared, nor is a change that Owl refused, nor what was deleted below us
// for as long as it stays deleted. What lives at Owl and was deleted here more
// than 7 days ago is an orphan too: nothing is deleted on a guess.
//
// # How soon a restore is noticed
//
//	Owl is older         10 s: it has lost exactly the latest changes, and the latest 200 CVMs that
//	                     an operation ended for and the latest 200 rules are looked at. If what it
//	                     lost is repaired already but for older changes, or if it is not a moment
//	                     of the past that it shows: the interval, 5 minutes
//	Platform is older    10 s: its connections break and a look fails; or the server has another
//	                     start; or its count of looks, kept here in memory, has not grown. A node
//	                     that starts sweeps anyway. Not noticed before the interval: tables set
//	                     back one by one beside a count that was left as it is
//
// A look that goes on finding a difference which does not go away sweeps at
// the 1st, 2nd, 4th, 8th … time, and otherwise at the interval.
//
// # Several nodes
//
// Two sweeps at once are harmless: each of their writes says what must still
// be so. Those for the interval are shared by a turn in the table chores, by
// Postgres' clock; it saves work and nothing else. Reapers skip what the other
// has locked.
//
// # Failure
//
// Every write is one statement, so a crash leaves each done or not done, and
// the next pass finds what is left. A reaper that fails stops no other. A sweep
// stops at its first failure, because its other half would miss the same
// answers, and begins again at the first look that is answered. A row made due
// for nothing costs one look at Owl. Panics end the pass, not the process.
//
// An orphan that is to be deleted is marked first, in its own commit: a crash
// before Owl's answer leaves the mark, and the next sweep deletes it. Of what is
// deleted Owl's tombstone is left, which tells a repetition from an ID that
// never was; once that has expired, nothing does.
package maintenance
