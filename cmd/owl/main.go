// Command owl runs Roost's owl service; see package owlcmd.
package main

import (
	"roost/cmd/internal/boot"
	"roost/cmd/internal/owlcmd"
)

func main() { boot.Main("owl", owlcmd.Run) }
