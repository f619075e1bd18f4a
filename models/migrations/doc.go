// Package migrations holds the schema of both services as numbered SQL files,
// applies them, and checks that a database has those that this binary needs.
//
// It promises that two nodes which start together apply each file once, that
// Check changes nothing, and that a schema newer than the binary is accepted:
// migrations come before the code that needs them, and the old code runs on the
// new schema. It never goes back: migrations are forward only. Their "Down"
// sections, where there are any, serve development and are reached by no
// command; a mistake is put right by the next number.
//
// Each service records its versions in a table of its own, so that a wrong
// database URL meets an error and not the other service's version number.
//
// A file runs in one transaction under the session limits of package pg. One
// that needs longer says so itself (SET LOCAL statement_timeout = …).
//
// # Failure
//
// A file that fails is rolled back and the versions before it stay; Up again
// continues there. A process killed inside Up loses its session, and with it the
// lock and the open file.
package migrations
