// Package lossy is an HTTP/1.1 proxy on loopback, in front of one upstream,
// that does to requests what networks do. Above all it delivers a request and
// loses the answer.
//
// It promises that what befalls a request is what its Policy said, that every
// delivery is one request on a connection of its own (nothing is repeated
// behind anybody's back), and that the record of what befell which request is
// complete, so that a test can show that its fault has happened. It never makes
// an answer up: when the upstream cannot be reached, the client's connection is
// cut. It listens on 127.0.0.1 alone and needs the standard library alone.
//
//	proxy := lossy.Start(t, owl.URL, lossy.Nth(2, lossy.Writes, lossy.DropAnswer()))
//	… talk to proxy.URL() …
//	require.Equal(t, 1, proxy.Count("drop answer"))
//
// Programs, which have no test to end with, use New and Close.
package lossy
