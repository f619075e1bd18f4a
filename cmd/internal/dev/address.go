package dev

import (
	"context"
	"fmt"
	"net"

	"roost/cmd/internal/boot"
)

// reserveAddresses makes sure that each address can be listened on, and turns
// port 0 into a free port: a process that is started again must keep its port.
// The ports are given up together, so that they differ.
func reserveAddresses(ctx context.Context, settings boot.Settings, addresses map[string]string) error {
	for name, addr := range addresses {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("%s=%s cannot be listened on: %w; stop what uses it, or set %s to another address", name, addr, err, name)
		}
		defer func() { _ = listener.Close() }()
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		settings.Set(name, net.JoinHostPort(host, port))
	}
	return nil
}

// reachable is the address at which a listener on addr answers this machine.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
