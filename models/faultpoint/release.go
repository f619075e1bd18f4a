//go:build !faults

package faultpoint

// Hit is a point that a fault can befall.
func Hit(string) {}

// Step runs one durable effect.
func Step(_ string, effect func() error) error { return effect() }

// Poll runs an effect that returns how much it found to do.
func Poll(_ string, effect func() (found int, err error)) error {
	_, err := effect()
	return err
}
