// Package conformance tries whether an engine keeps the contract of dbhooks, against real processes. Every engine with one primary runs it; so can the
// author of an exec program, in a test of a few lines:
//
//	func TestMine(t *testing.T) {
//		conformance.Run(t, conformance.Suite{
//			New: func(cfg dbhooks.Config) dbhooks.Engine { return exec.New(exec.Config{Config: cfg, Program: "/usr/local/bin/mine"}) },
//			Put: …, Get: …,
//		})
//	}
package conformance

import (
	"context"
	"testing"

	"ferryman/dbhooks"
)

// Suite is an engine and how a client of its database writes and reads.
type Suite struct {
	// New returns the engine of one instance. Dir does not exist yet, and nothing listens on Address.
	New func(dbhooks.Config) dbhooks.Engine
	// Home is the release to run; empty for the engine's default program.
	Home string
	// Put writes to the instance and returns nil once the write is acknowledged, which must mean that a replica has it too. Unless ctx ends it
	// may wait for one.
	Put func(ctx context.Context, cfg dbhooks.Config, key, value string) error
	// Get reads from the instance itself, replica or not.
	Get func(ctx context.Context, cfg dbhooks.Config, key string) (value string, found bool, err error)
	// Volatile tells that a process which is killed loses its data.
	Volatile bool
	// SyncReplicas is what an instance says of itself: how many replicas must have a write before it acknowledges that. Zero is right where it is
	// the client that waits for them.
	SyncReplicas int
	// Parameters can be configured; Refused cannot. Either may be empty.
	Parameters, Refused map[string]string
	// NextHome is a release that runs NextVersion, for a rolling upgrade from Home; without it that is not tried.
	NextHome, NextVersion string
	// AfterSwitchovers, if set, sees the instances after primaries changed there and back; the first one is the primary, as it was at the beginning.
	AfterSwitchovers func(*testing.T, []dbhooks.Config)
}

// Run runs every test of the suite.
func Run(t *testing.T, s Suite) {
	type test struct {
		name string
		run  func(*testing.T, Suite)
	}
	tests := []test{
		{"TraitsAreKnown", traitsAreKnown},
		{"UnknownOpIsUnsupported", unknownOpIsUnsupported},
		{"ComesUpWithoutWrites", comesUpWithoutWrites},
		{"InitialisesOnce", initialisesOnce},
		{"PromotesByEpoch", promotesByEpoch},
		{"RestartedPrimaryWaitsForPromotion", restartedPrimaryWaits},
		{"FollowNeedsData", followNeedsData},
		{"AcknowledgedWritesArrive", acknowledgedWritesArrive},
		{"FenceIsFinalAndDurable", fenceIsFinal},
		{"UnfenceGivesBack", unfenceGivesBack},
		{"VerifyWaits", verifyWaits},
		{"SwitchoverThereAndBack", switchoverThereAndBack},
		{"KilledReplicaComesBack", killedReplicaComesBack},
		{"DivergedDataAreSetAside", divergedDataAreSetAside},
		{"OperationKeepsToItsProcess", operationKeepsToItsProcess},
		{"KilledPrimaryComesBack", killedPrimaryComesBack},
		{"FencedWhileItWasDown", fencedWhileDown},
		{"LostPrimaryIsReplaced", lostPrimary},
		{"UnreplicatedWritesAreSetAside", unreplicatedWrites},
		{"HungProcessIsBounded", hungProcessIsBounded},
		{"PreflightChangesNothing", preflightChangesNothing},
		{"Configures", configures},
	}
	if s.NextHome != "" {
		tests = append(tests, test{"RollingUpgradeLosesNothing", rollingUpgrade})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s)
		})
	}
}

// WithCluster lends f n running instances for tests of the engine's own: the first is the primary of epoch 1, the others follow it.
func WithCluster(t *testing.T, s Suite, n int, f func([]dbhooks.Config)) {
	t.Helper()
	f(configs(newCluster(t, s, n)))
}
