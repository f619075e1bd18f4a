// Package faultpoint names the boundaries between durable effects, so that a
// test can make a process die, panic, freeze or repeat itself at exactly one.
//
// It promises that a build without the tag `faults` contains none of this: Step
// is then a call of its argument, Hit is nothing, and ROOST_FAULT is not read.
// It never decides anything; code behaves the same with and without it.
//
// # Where
//
// Step is for an effect that may run twice, as nearly all here may; its repeat
// must then be one (the request is sent twice, the row inserted twice). Poll is
// for one that finds nothing to do most of the time and is no effect then. Hit is
// for a place inside one, such as the moment before COMMIT. Names are string
// literals, `service.step`, each once in the source: package
// cmd/internal/crash reads them there and wants a crash test for each.
//
// # What
//
// With the tag, ROOST_FAULT says what is to happen, once in a process:
//
//	POINT:kill        SIGKILL, as a crash of the machine would
//	POINT:panic       a panic on the goroutine that is there
//	POINT:stop        SIGSTOP: frozen until somebody sends SIGCONT
//	POINT:sleep=3s    a pause
//	STEP:repeat       the step's effect runs twice in a row
//
// A step NAME has the points NAME.before and NAME.after, a poll NAME.after
// alone: before it, nobody knows that it will be one. `POINT:kill@3` means the
// third time. What fires is announced on standard error, as
// "fault point POINT: kill".
//
// ROOST_FAULT=@FILE looks for the same text in a file at every point, so that a
// process can be told while it runs. Who fires a fault removes the file first:
// it befalls one process, and none that is started after it.
package faultpoint
