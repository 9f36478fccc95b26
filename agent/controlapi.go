package agent

import (
	"context"
	"fmt"
	"time"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/reconcile"
	"ferryman/agent/source"
)

// filePoll is how often a desired state in a file is looked at.
const filePoll = time.Second

// controlAPI makes what brings documents, and speaks with the api-server, as
// configured; without either, the accepted document stays in force.
func controlAPI(cfg config.Source) (source.Source, reconcile.Hosts, error) {
	switch {
	case cfg.File != "":
		return source.NewFile(cfg.File, filePoll), nil, nil
	case cfg.URL != "":
		client, err := source.NewClient(Remote(cfg))
		if err != nil {
			return nil, nil, err
		}
		return client.Desired(), apiServer{client}, nil
	}
	return nil, nil, nil
}

// Remote is how the api-server is reached, as configured.
func Remote(cfg config.Source) source.Remote {
	return source.Remote{URL: cfg.URL, TokenFile: cfg.TokenFile, CAFile: cfg.CAFile, Interval: cfg.PollInterval.Std()}
}

// apiServer is the client in the words of reconcile.
type apiServer struct{ *source.Client }

func (a apiServer) Current(ctx context.Context) (names []string, minimal bool, err error) {
	hosts, err := a.CurrentHosts(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, h := range hosts {
		names = append(names, h.Address)
	}
	return names, a.Minimal(), nil
}

func (a apiServer) Ask(ctx context.Context, ask reconcile.Ask) error {
	return a.RequestHosts(ctx, source.HostRequest{NumDesiredHosts: ask.Total, RemoveHosts: ask.Remove, LostHosts: ask.Lost,
		Term: ask.Term, Generation: ask.Generation})
}

// Report is ferryman.ErrUnsupported to a minimal server, which is not sent
// another one.
func (a apiServer) Report(ctx context.Context, r ferryman.Report) error {
	if err := a.Client.Report(ctx, r); err != nil {
		return err
	}
	if a.Minimal() {
		return fmt.Errorf("report to the api-server: it takes none: %w", ferryman.ErrUnsupported)
	}
	return nil
}
