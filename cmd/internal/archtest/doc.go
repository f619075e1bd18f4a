// Package archtest checks what no linter sees: what a package drags in through
// others, whether each says what it is for, and what lies at the top of the
// repository.
//
// It holds tests alone. They ask the go command, so they see build constraints
// and test files as the compiler does.
package archtest
