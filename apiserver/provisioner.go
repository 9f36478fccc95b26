package apiserver

import (
	"context"
	"fmt"

	"ferryman"
	"ferryman/agent/source"
)

// Provisioner makes and removes hosts. Which, when and how many is not its
// concern: the server decides that, calls each method for one name at most once
// at a time, and never gives a name twice.
type Provisioner interface {
	// List returns the hosts that run now.
	List(ctx context.Context) ([]source.Host, error)
	// Create makes a host and starts the agent on it. An error means that
	// nothing of it runs.
	Create(ctx context.Context, name string) error
	// Remove ends a host; one that is not there is no error. A lost one is dead
	// to the cluster: if it still runs, it is ended without being asked.
	Remove(ctx context.Context, name string, lost bool) error
}

// Static is the Provisioner of those who make hosts themselves: it lists the
// given ones, and makes or removes none.
type Static []source.Host

var _ Provisioner = Static{}

// List returns the given hosts.
func (s Static) List(context.Context) ([]source.Host, error) { return s, nil }

// Create refuses.
func (Static) Create(_ context.Context, name string) error {
	return fmt.Errorf("make host %s: %w: this api-server has no provisioner; start an agent by hand", name, ferryman.ErrUnsupported)
}

// Remove refuses.
func (Static) Remove(_ context.Context, name string, _ bool) error {
	return fmt.Errorf("remove host %s: %w: this api-server has no provisioner; stop it by hand", name, ferryman.ErrUnsupported)
}
