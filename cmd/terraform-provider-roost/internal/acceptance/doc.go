// Package acceptance holds the provider against the real Terraform and real
// services: nothing but tests.
//
// One `roost dev` serves all of them, with short boots; every test uses app
// names of its own. The tests of single resources run the provider in this
// process (terraform-plugin-testing); those of lost answers and kills run the
// binary, behind a lossy proxy, one Terraform working directory each. They
// promise to end only what they started.
package acceptance
