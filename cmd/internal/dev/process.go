package dev

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// stopTimeout is longer than a server drains (boot.DrainTimeout).
	stopTimeout = 20 * time.Second
	// logTailBytes and logTailLines are how much of a log an error quotes.
	logTailBytes = 4 << 10
	logTailLines = 8
)

// program says how to start one of our processes.
type program struct {
	name    string // of the process and of its log
	environ []string
	stdout  io.Writer // nil: the log
	killed  bool      // may be killed with us: it has nothing to put in order
}

// process is one run of a program.
type process struct {
	cmd     *exec.Cmd
	logPath string
	logFrom int64         // where this run's part of the log begins
	done    chan struct{} // closed once the process was waited for
}

// launch runs this binary again as one of our processes, in a process group of
// its own: a Ctrl-C in the terminal reaches only us, and we end them in order.
// It ends by signals, in stop, and not with ctx.
func launch(ctx context.Context, dir *dataDir, lifeline *os.File, p program) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	log, err := dir.openLog(p.name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, ProcessCommand, p.name) //nolint:gosec // ourselves
	cmd.Env = p.environ
	cmd.Stdout, cmd.Stderr = log, log
	if p.stdout != nil {
		cmd.Stdout = p.stdout
	}
	cmd.ExtraFiles = []*os.File{lifeline, dir.processes}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.killed {
		killWithParent(cmd.SysProcAttr)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	run := &process{cmd: cmd, logPath: dir.logPath(p.name), logFrom: from, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the status is in ProcessState
		close(run.done)
	}()
	return run, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process: in order if it can, else at once.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	select {
	case <-p.done:
		return
	case <-time.After(stopTimeout):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exit describes an end that nobody asked for, with the last lines of the log
// where only they can say why. Call it after done.
func (p *process) exit() string {
	state := p.cmd.ProcessState
	if state.ExitCode() <= 0 { // told to end, or killed (-1)
		return state.String()
	}
	return state.String() + p.logTail()
}

func (p *process) logTail() string {
	file, err := os.Open(p.logPath)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	from := max(p.logFrom, info.Size()-logTailBytes)
	content, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil || len(content) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	lines = lines[max(0, len(lines)-logTailLines):]
	return "; the end of " + p.logPath + ":\n    " + strings.Join(lines, "\n    ")
}
