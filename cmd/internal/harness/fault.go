package harness

import (
	"context"
	"os"
	"strings"
	"syscall"
	"time"
)

// firing is a fault that befell a process.
type firing struct {
	what string // "POINT: ACTION"
	at   time.Time
	run  *run
}

// Arm tells the node's process while it runs, or else the next one, what is to
// befall it: POINT:ACTION, once. It returns how to wait until that has
// happened, which says when it did; a process that is killed is dead by then.
func (n *Node) Arm(fault string) (fired func() time.Time) {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	since := len(n.fired)
	if len(n.runs) > 0 {
		n.runs[len(n.runs)-1].fault += " " + fault
	}
	err := os.WriteFile(n.orders+".new", []byte(fault), 0o600)
	if err == nil {
		err = os.Rename(n.orders+".new", n.orders) // nobody reads half of it
	}
	if err != nil {
		n.tb.Fatalf("arm %s: %v", n.Name, err)
	}
	return func() time.Time { n.tb.Helper(); return n.awaitFiring(fault, since) }
}

// ordered is what waits for the next process.
func (n *Node) ordered() string {
	text, _ := os.ReadFile(n.orders) // there is none most of the time
	return " " + string(text)
}

func (n *Node) awaitFiring(fault string, since int) time.Time {
	n.tb.Helper()
	point, action, _ := strings.Cut(fault, ":")
	action, _, _ = strings.Cut(action, "@")
	var met firing
	n.await("suffer "+fault, func(context.Context) (bool, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, f := range n.fired[since:] {
			if f.what == point+": "+action {
				met = f
				return true, nil
			}
		}
		return false, nil
	})
	if action == "kill" {
		<-met.run.done
		if status, ok := met.run.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			n.tb.Errorf("%s should have been killed at %s and ended with %s", n.Name, point, met.run.cmd.ProcessState)
		}
	}
	return met.at
}

// Supervise has a process that a fault kills started again at once.
func (n *Node) Supervise() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.supervised = true
}

// replace starts another process for one that a fault has killed.
func (n *Node) replace(r *run, env []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.supervised && !r.asked.Load() && strings.Contains(r.fault, ":kill") {
		_ = n.launch(env) // who waits for it to be ready is told that it is not
	}
}
