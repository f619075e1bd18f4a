package client

// Option adjusts one mutation.
type Option func(*mutation)

// WithIdempotencyKey makes the call under this key instead of a new one: the
// same request under the same key is done once, whichever process sends it,
// for as long as the key lives. 1 to 255 visible ASCII characters; another key
// is refused before anything is sent. DELETE has no key; there it does nothing.
func WithIdempotencyKey(key string) Option {
	return func(m *mutation) { m.key = &key }
}

// WithoutRetry makes one attempt and no more. What is unknown after it can be
// sent again under the error's IdempotencyKey.
func WithoutRetry() Option {
	return func(m *mutation) { m.once = true }
}
