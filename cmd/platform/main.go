// Command platform runs Roost's platform service; see package platformcmd.
package main

import (
	"roost/cmd/internal/boot"
	"roost/cmd/internal/platformcmd"
)

func main() { boot.Main("platform", platformcmd.Run) }
