// Package scenario has no code, only tests: one for each thing that may befall
// a running Roost and that an operator or a client can name. Each is a race or
// a loss over real processes (cmd/internal/harness) and ends with the checks
// at rest. The deaths at each fault point are a matrix of their own.
package scenario
