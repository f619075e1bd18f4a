// Package api is Roost's public contract: the shapes that travel between
// clients and Platform, the codes of its errors, the grammar of its headers
// and the paths of its routes.
//
// It promises that a value that encodes here decodes to the same value on the
// other side, to the microsecond and to the last digit. It never talks to a
// network or a database, and it stands on the standard library and the ULID
// package alone, so that an SDK, a CLI or a Terraform provider that imports it
// links neither a web framework nor an ORM.
package api
