// Package httpapi is the wire side of Owl: it decodes a request, makes one
// call to the registry, and encodes the answer.
//
// It promises the statuses of the private contract: 201 for what was created,
// 200 for what existed, 409 naming what differs, 410 for what was deleted, 400
// naming what is wrong. What it has begun it finishes, whether or not the
// caller is still there. It decides nothing about resources, and neither logs
// nor counts a spec or a token.
package httpapi
