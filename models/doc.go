// Package models holds the rows of both databases: one gorm struct a table,
// no behaviour.
//
// It promises that structs and schema agree in both directions (a test in
// models/migrations says so) and that no row type ever reaches the wire. The
// schema itself is the numbered SQL in models/migrations; nothing here creates
// or alters a table.
//
// # Conventions
//
// Columns are spelled out: there is no gorm.Model, and deletion is an explicit
// column, because a soft delete would turn a tombstone into "not found". Times
// are set by Postgres, never by an application's clock, so they are read-only
// here. JSON columns are json, not jsonb: digits and key order survive.
package models
