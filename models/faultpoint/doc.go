// Package faultpoint names the boundaries between durable effects, so that a
// test can make a process die, panic, freeze or repeat itself at exactly one.
//
// It promises that a build without the tag `faults` contains none of this: Step
// is then a call of its argument, Hit is nothing, and ROOST_FAULT is not read.
// It never decides anything; code behaves the same with and without it.
//
// With the tag, ROOST_FAULT says what is to happen, once in a process:
//
//	POINT:kill        SIGKILL, as a crash of the machine would
//	POINT:panic       a panic on the goroutine that is there
//	POINT:stop        SIGSTOP: frozen until somebody sends SIGCONT
//	POINT:sleep=3s    a pause
//	STEP:repeat       the step's effect runs twice in a row
//
// A step NAME has the points NAME.before and NAME.after. `POINT:kill@3` means
// the third time. What fires is announced on standard error, as
// "fault point POINT: kill".
package faultpoint
