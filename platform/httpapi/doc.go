// Package httpapi is the public API's edge: it decodes a request, makes one
// call to platform/fleet, and encodes the answer.
//
// It promises the order of checks of the contract: token, scope, rate, key
// syntax, body, and only then the fleet. It never decides anything about a
// resource, never sees a row or a transaction, and never lets an error out
// other than as a problem document.
package httpapi
