// Package owlapitest has a fake Owl that can be told to misbehave, and the
// conformance suite of the private contract, which the fake and the real Owl
// both pass.
//
// It promises that what a test sees from the fake it would see from Owl: the
// same statuses, records, problems and fences, one record to an ID. What the
// fake does not have is a database, machines, or any wish to survive; those
// are package owl's to prove.
//
//	request ─▶ journal ─▶ Hold ─▶ Delay ─▶ FailNext ─▶ the work ─▶ DropNext, TearNext ─▶ answer
//	                                          │ nothing done          │ done, but nobody hears
package owlapitest
