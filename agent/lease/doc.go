// Package lease is the primary's lease, both ends: the Granter beside Raft's
// leader and the Holder beside the primary.
//
// The argument, in short (docs/decisions/0004-one-primary.md has it whole). The
// holder counts from when it sent its request, the granter from when it
// answered; between the two lies a barrier that a majority of voters confirmed.
// So a grant has ended for the holder before it has for the granter that gave
// it, and also before it has for a later leader that counts from its own first
// barrier: a voter that confirmed the old leader's barrier did so before it
// elected the new one. All clocks are CLOCK_BOOTTIME, which counts while a host
// sleeps.
package lease
