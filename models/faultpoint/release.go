//go:build !faults

package faultpoint

// Hit is a point that a fault can befall.
func Hit(string) {}

// Step runs one durable effect.
func Step(_ string, effect func() error) error { return effect() }
