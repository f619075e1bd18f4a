// Package pgtest gives each test a private, migrated database on a real
// Postgres.
//
// It promises that no test sees another's rows, that the database goes away
// with the test, and that a backend which was asked for and cannot be had fails
// the test: it never skips. It never touches a database that it did not make.
//
// The backend is chosen by the environment variable ROOST_TEST_DB:
//
//	pglocal, or unset  a throwaway Postgres from this machine's binaries
//	containers         one testcontainers-go container, image ROOST_TEST_IMAGE
//	postgres://…       a server that runs already; its user may create databases
//
// A test process starts its backend on first use. The command withpg starts one
// for all packages of a run and hands its URL down, which is what the Makefile
// does.
//
// Databases are cloned from a template that is named by the digest of the
// migrations, so a server keeps one template for each schema and the first
// test to come, of whatever package, makes it under an advisory lock.
//
// # Failure
//
// A test process that is killed leaves its databases to the server: a throwaway
// Postgres ends with the process that started it (see pglocal), a container is
// removed by testcontainers' reaper, or with its Docker engine where the reaper
// is switched off. On a server of your own, databases named roost_test_* may be
// dropped.
package pgtest
