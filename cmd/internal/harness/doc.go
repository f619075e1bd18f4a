// Package harness runs real processes for tests: Platforms and Owls built with
// -race and the fault points of models/faultpoint, each over real databases,
// with a lossy proxy on every hop. What one process can show belongs in
// cmd/internal/stack; here are deaths, frozen processes and lost answers.
//
//	test ──▶ Platform.Front ──▶ platform ──▶ Platform.Back ──▶ owl ──▶ sim driver
//	         (lossy proxy)      (process)    (lossy proxy)   (process)
//
// It promises that nothing outlives its test, that it ends only what it
// started, and that a process which dies, panics or races without having been
// told to fails the test, with its log. It never waits for a time, only for a
// state, and then at most Patience.
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
//	func TestAKill(t *testing.T) {
//		t.Parallel()
//		s := harness.Start(t, harness.Options{})
//		platform := s.Platforms[0]
//		platform.Restart("ROOST_FAULT=platform.claim.after:kill") // a new process, ready
//		cvm := s.Insist(s.Client().Post("/cvms", apitest.Spec("web", "services: {}")).Key("k")).CVM()
//		platform.AwaitFault("platform.claim.after")
//		platform.AwaitExit()
//		platform.Start()      // again, without the fault
//		s.FaultsEnded()       // the clock of "converged" starts here
//		s.AtRest()            // waits, then holds all of FAULTS.md's checks
//	}
//
// # Processes
//
// Start brings a process up and waits until it is ready; Launch does not wait,
// for faults that strike before. Kill, Stop (SIGTERM), Freeze and Thaw are what
// they say. A node may be started again whenever it has ended; it listens at
// another port each time, and the proxies before it follow.
//
// Arm tells a process that runs what is to befall it, and Supervise has one
// that was killed started again, so that a test can try fault after fault.
//
// # Checks
//
// Client records every answer in Stack.Journal. AtRest waits until nothing is
// unfinished on either side and then compares the journal, both databases and
// the driver's effect log (see rest.go). FaultsEnded and AtRest together log
// "converged: TEST 1.234s"; `make converged` prints them as a table.
package harness
