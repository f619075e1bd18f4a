// Package dev runs all of Roost on one machine: Postgres, Owl and Platform,
// each a process of its own.
//
// It promises that the three come up in order or that it says which one did
// not and why; that one which dies is started again on the same port and data;
// that Ctrl-C ends all of them; and that none outlives it for long, however it
// ends. It never keeps state that matters: what a process needs lies in the
// data directory or in Postgres. It is for development: no process here is
// started again faster, or given up on.
//
//	roost dev ──lifeline pipe, lock──▶ roost dev-process postgres ──▶ postgres
//	          ├───────────────────────▶ roost dev-process owl
//	          └───────────────────────▶ roost dev-process platform
//
// Each process, once the first start has succeeded:
//
//	           dies                   5 s
//	running ─────────▶ waiting ─────────────▶ starting ──▶ ready ──▶ running
//	   │                  ▲                      │ dies, or not ready in time
//	   │ told to stop     └──────────────────────┘
//	   ▼
//	SIGTERM, 20 s, SIGKILL
//
// # Directory
//
//	lock            held by roost dev alone: a second one is an error
//	processes.lock  held by roost dev and, through an inherited descriptor, by
//	                every process it started: the next run waits for the last
//	                of them, so that ports and data are free again
//	dev-token       the API token, mode 0600
//	owl-token       the secret between Platform and Owl, mode 0600
//	postgres/       the cluster, see package pglocal
//	sim/            the simulated machines
//	log/            one log a process, and .1 of the run before
//
// # Failure
//
// roost dev is killed: the kernel closes the lifeline, and every process ends
// when it reads the end of it; Linux kills Owl and Platform besides.
//
// A process is killed: it is started again. Should Postgres not get its port
// back, Owl and Platform are started again with the new one.
package dev
