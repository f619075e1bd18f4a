// Package wire is the gin side of the contract, the same for both services:
// strict decoding, problem documents, request IDs, one log line a request.
//
// It promises that a request is either decoded whole or refused with an error
// that names the member; that every answer which is not 2xx is a problem
// document with the request ID; and that an unknown error shows nothing of the
// inside. It never decides anything about resources, never logs a body, a
// token or a header's value, and never writes before the handler has finished.
//
// # Order of a request
//
//	request ID ─▶ access log ─▶ recovery ─▶ (auth) ─▶ handler ─▶ answer or problem
//
// A handler returns an error instead of writing one; Handle is the only place
// that turns errors into answers.
//
// # Strict JSON
//
// encoding/json accepts unknown members, duplicates, other letter cases and
// (through gin's binding) a second document behind the first. Decoding is
// therefore by github.com/go-json-experiment/json, the module that becomes
// encoding/json/v2: it refuses all of these and says where.
package wire
