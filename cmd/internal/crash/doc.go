// Package crash is a test of every boundary between two durable effects: a real
// process is killed there, or panics, or does the effect twice, and the two
// services agree again by themselves with one machine per key.
//
// It promises that no boundary is forgotten: the fault points (package
// models/faultpoint) are read from the source, and a point without a crash test
// fails the build, as does a test without its point. It never waits for a time
// and never calls a fault survived that did not happen: each must have been
// announced, and a process that was to be killed must have died of it.
//
// A point's cases run one after the other on one Platform and one Owl; whoever
// was killed is started again at once, as by a supervisor, and the client
// repeats what was not answered. Then harness.Check holds the checks at rest.
package crash
