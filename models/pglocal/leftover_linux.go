package pglocal

import (
	"os"
	"strconv"
)

// runsIn reports whether pid is a live process that works in dir, which is what
// tells our postmaster from another process under a recycled number. A zombie
// has no working directory.
func runsIn(pid int, dir string) bool {
	cwd, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false
	}
	data, err := os.Stat(dir)
	return err == nil && os.SameFile(cwd, data)
}
