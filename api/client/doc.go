// Package client is the Go SDK of Roost's public API.
//
// It promises that a call is one wish. It has one Idempotency-Key, made before
// the first attempt and kept, with the same bytes, over every attempt: whatever
// is lost on the way, the machine is made once, and the call returns its ID.
// The key is on the Result and on the Error, so that another process can take
// the wish up where this one left it. It never says of what may have been done
// that it was not, never repeats what was refused, never sleeps past a deadline
// or a cancellation, never follows a redirect, and never shows the token or a
// body in an error or a log.
//
// Whoever imports it links the standard library, package api and the rate
// limiter of golang.org/x/time.
//
// # One call
//
//	           key made (or the caller's), body encoded
//	                           │
//	    ┌──────────────────────▼──────────────────────┐
//	    │ attempt: send, read the answer to its end   │◀──────────────────┐
//	    └──┬──────────────┬───────────────────────┬───┘                   │
//	whole 2xx         refused:            no answer, torn or unusable     │
//	410 to DELETE     retryable false,    answer, retryable true          │
//	       │          other 4xx           (409 in progress, 429, 503 …)   │
//	       ▼              │                       │                       │
//	    Result            ▼                       ▼                       │
//	                    Error        pause: full jitter, Retry-After, ────┘
//	                      ▲          a turn in the Client's budget
//	                      └─────────── no attempt, time or turn left,
//	                                   or the context has ended
//
// What an answer means is what its problem document says; status codes decide
// only where there is none, which is to say that somebody on the way answered.
//
//	repeated    no answer · a broken or unusable one · retryable: true ·
//	            408, 425, 429, 5xx of a stranger
//	final       every other non-2xx · a certificate that is not trusted
//
// Members and enum values that this version does not know are taken as they
// come: servers and clients are deployed in any order. A switch over a status
// needs a default.
//
// # Keys
//
// POST, PUT and PATCH carry a key also where the call would be safe without:
// with it a repeat that is late cannot undo what somebody did in between. GET
// and DELETE carry none; their path says all. A key lives 24 hours
// (Result.KeyExpiresAt). The same key with another request is refused with
// IDEMPOTENCY_KEY_REUSED, and nothing is done.
//
// # Failure
//
// An Error says two things that matter. Retryable: may the same call, under the
// same key, be made again and end differently? Outcome: what is true now?
//
//	OutcomeNotDone  refused, or never sent: nothing was done and nothing will be
//	OutcomeUnknown  an attempt may have been done, or may still arrive
//
// The outcome is unknown as soon as one attempt was left without an answer,
// even when a later one is refused: a 401 to the second attempt says nothing of
// the first, nor does a quota that is used up now say that a copy which is held
// on the way will find it so. Only that the key belongs to another request, or
// that the resource is deleted, stays true for ever.
//
// The way out of an unknown outcome is to repeat the call under
// Error.IdempotencyKey (WithIdempotencyKey), within the key's life, from any
// process. LookupKey shows whether it has happened without making it happen;
// "not so far" is not "never".
//
// Beneath the SDK, Go's http.Transport sends a request that carries a key once
// more, unasked, when a connection that it had kept was dropped. Neither
// Attempts nor WithoutRetry knows of that, and the key makes it harmless.
//
// When the server is away, calls go on until Retry.Deadline (2 minutes) or
// their context ends; waiters until their context ends. All calls of a Client
// share one retry budget, so that a thousand of them do not keep down a server
// that is trying to come back.
package client
