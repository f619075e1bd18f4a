// Command terraform-provider-roost is Roost's Terraform provider (protocol 6).
// Terraform starts it; see docs/ for how to use it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"roost/cmd/terraform-provider-roost/internal/provider"
)

func main() {
	if err := realMain(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "terraform-provider-roost:", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context) error {
	debugger := flag.Bool("debug", false, "wait for a debugger, and print how Terraform attaches to this process")
	flag.Parse()
	err := providerserver.Serve(ctx, provider.New(version()), providerserver.ServeOpts{
		Address: provider.Address, ProtocolVersion: 6, Debug: *debugger,
	})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// version is the commit that the binary was built from, as far as Go knows.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "dev"
	}
	return info.Main.Version
}
