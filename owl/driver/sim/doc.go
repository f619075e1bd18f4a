// Package sim is a driver without a hypervisor: machines are files that take
// a while to boot and to stop, and every effect is a line in a log.
//
// It promises what package driver asks for, to any number of Owl processes
// that share one directory, whichever of them is killed or frozen and
// wherever: above all that effects.jsonl names each ID's create once. It never
// keeps a spec, only its digest, because specs hold secrets.
//
// # Layout
//
//	DIR/effects.jsonl      {at,id,generation,effect}, appended to, never rewritten
//	DIR/machines/ID.json   one machine; replaced by rename, so a reader needs no lock
//	DIR/locks/ID           flock of whoever is changing that machine
//
// # One machine
//
//	           create           Boot passed: start           power stopped
//	absent ───────────▶ stopped ─────▶ booting ─────▶ running ─────▶ stopping
//	                     ▲  ▲             │   ▲ restart │                │
//	                     │  ╰── fails ────╯   ╰─────────╯                │
//	                     ╰───────────── Stop passed: stop ───────────────╯
//	any ── remove ──▶ removed
//
// Booting is a moment in the file ("ready at"), not a goroutine: the machine
// goes on booting while Owl is dead, as a real one would, and nobody holds a
// lock meanwhile. Changing the mind halfway (stopped while booting) is a move
// like any other.
//
// # Failure
//
// A move and its line in the log cannot be one write, so the line is written
// ahead: the file that holds the new state also holds the line and how long
// the log was; then the line is appended; then it is struck from the file. Who
// finds a file with a line in it looks for it in the log from there on and
// appends it if it is missing. A kill between any two writes ends with the
// effect done once and logged once.
//
// A killed process loses its flock with it. A frozen one keeps it: the others
// wait for that one ID until their context ends, and for no other. Appending
// takes no lock at all, because one write with O_APPEND is not interleaved
// with others, and a process frozen there would stop everyone.
//
// Clocks: "ready at" is written by one process and read by another. If the two
// disagree by more than the delay itself, the delay starts again; nothing
// waits for a day because a clock was a day ahead.
package sim
