// Package provider is Roost's Terraform provider: the resources roost_app,
// roost_cvm_power and roost_firewall_rule, and data sources.
//
// It promises that an apply which was killed at any instant, or lost any
// answer, ends by being repeated, with the machines that were asked for and no
// others; that a plan right after an apply is empty; and that nothing outside of the
// configuration is taken over without an import. It never sends a key that
// another run would not choose too, never keeps one anywhere, and never decides
// about a machine by anything but its ID.
//
// # Keys
//
// Terraform gives a provider no memory that survives a kill. What is random is
// lost, a key that is made while planning is refused ("inconsistent final
// plan"), and private state does not reach Create. So keys follow from the plan:
//
//	what           key is a digest of                                              then
//	first CVM      namespace, "roost_app", name, generation                        POST /cvms
//	replica        namespace, "roost_app", app ID, slot (2, 3, …), generation      POST …/replicas {name: NAME-SLOT}
//	firewall rule  namespace, "roost_firewall_rule", CVM ID, cidr, protocol, port,
//	               generation                                                      POST …/firewall-rules
//	change, power  namespace, what, CVM ID, the CVM's generation before, the body  PATCH, POST start, stop
//	deletion       none: the ID says it all                                        DELETE
//
// The server scopes keys to its own workspace, so that is not in them. Nor is
// the configuration of a CVM: the server compares it. Under the same key another
// configuration is answered with IDEMPOTENCY_KEY_REUSED, which proves that an
// earlier apply of this namespace made the app, and the key's look-up says which CVM
// to change. With the configuration in the key that apply's machine could not be
// told from a stranger's. The server's 409 APP_EXISTS, and a replay of a CVM that
// no request under the key has made, are therefore somebody else's: an error
// that says how to import it. So is an app in which our first CVM is
// younger than a copy that none of our keys names.
//
// # Making
//
//	         ┌────────────────────────────── next generation ◀─────────┐
//	         ▼                                                         │ deleting, 404
//	generation 0 ─▶ send ── 2xx, first answer ──▶ made                 │
//	                 │ ├──── 2xx, replay ──────────▶ read what it names ── alive ──▶ found
//	                 │ └──── KEY_REUSED ─▶ look it up ─▶ ┘
//	                 └────── unknown, refused ──▶ error; the next apply begins here again
//
// A replay is always read: it shows what the key is bound to, and an echo's body
// is as old as the key. A name that is destroyed and made again within the
// key's life moves on to the next generation. The loop is bounded by maxGenerations.
//
// # Converging
//
// Create, after the first CVM, and Update are one path, and each step of it
// looks at what is there:
//
//	list ─▶ delete the dead ─▶ none left: the first CVM anew
//	     ─▶ delete the newest beyond replicas ─▶ PATCH what differs ─▶ a replica for each free slot
//	     ─▶ list ─▶ PATCH what differs ─▶ state (all IDs) ─▶ wait ─▶ state
//
// Replicas have slots rather than a count: PUT /apps/{app_id}/replicas {count}
// is one request and natural, but a copy of it that arrives late, from an apply
// that was killed, sets the count back, and deletes machines that were made since.
// A late copy of a slot's POST finds its key bound, or makes that one
// replica; a late DELETE names a machine that was to go. Nothing that is late can
// take a machine away. The slot is in the replica's name, so it is known for as
// long as the machine lives and not only for as long as a key.
//
// The dead are CVMs that have failed and have no machine that could hold
// anything: it was deleted below Platform, or the operation that made the CVM has
// failed and nothing was asked of it since. They are no replicas: reading leaves
// them out of the count and lists them in dead_cvm_ids, which a plan wants empty.
// Only those are deleted that the plan has shown. Whoever comes in their place, the
// first CVM too, is a new wish in the next generation, for the deletion comes first.
// A CVM that failed otherwise may have a disk that somebody needs: each plan warns
// of it, and none touches it. A rule holds nothing, so one that has failed is replaced.
//
// The environment cannot be read back, and a repeat under a key does not compare
// its ciphertext. So it is sent when it differs from the state, and when the app
// turns out to have been made before; to a CVM that has this very ciphertext
// nothing happens. One request changes the whole app, or nothing of it.
//
// Power has no memory of its own either: start → stop → start is three
// wishes, because each one changes the generation that is in the next one's key.
// While an answer is lost and nothing has changed, the repetition has the same
// key and is done once; what is so already is not asked for.
//
// # Failure
//
// Killed, or an answer lost for good: Create returns no state, for Terraform
// destroys what has a state and an error. The next apply finds everything by its keys.
// A configuration that has changed since adopts what is there and PATCHes it.
//
// Refused for good (quota, a wrong value) when a machine is there already: Create
// returns the state and the error, so that a destroy finds the machine.
//
// Killed in its wait: the state has every ID before it, and nothing is left to ask
// for. What is under way shows in the plan as a status that is not known yet, so
// that the next apply waits too. A wait that takes too long is a warning and ends likewise.
//
// A CVM that fails: an error; its ID is in the state. Create is tainted then.
//
// Update fails: the state stays, and the next plan begins with what is there.
//
// Others have deleted or added CVMs since the plan: Update brings the app to what is
// configured, keeps that in the state, and says in an error that the plan showed others.
//
// Delete fails or takes too long: an error, the state stays; each deletion can be repeated.
//
// A key expires (24 h) before the apply is repeated: the app is there and nobody can
// tell any more who made it. Import it.
package provider
