package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/source"
	"ferryman/cmd/agent/internal/render"
)

// outside shows the cluster from outside: what its leader last reported to the
// api-server.
type outside struct{ url, tokenFile, caFile string }

func (o *outside) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.url, "api-server", "", "show what the leader last reported to the api-server at this URL")
	c.Flags().StringVar(&o.tokenFile, "token-file", "", "the file with the bearer token for --api-server")
	c.Flags().StringVar(&o.caFile, "ca-file", "", "the authorities that its certificate must lead to (default: those that this host trusts)")
}

// asked tells whether any of the flags was given.
func (o *outside) asked(c *cobra.Command) bool {
	f := c.Flags()
	return f.Changed("api-server") || f.Changed("token-file") || f.Changed("ca-file")
}

// late is how old a report can be while a leader is there: it reports twice a
// minute although nothing happens.
const late = 2 * time.Minute

func (o *outside) show(c *cobra.Command, v *viewer) error {
	if err := o.check(c, v); err != nil {
		return err
	}
	client, err := source.NewClient(source.Remote{URL: o.url, TokenFile: o.tokenFile, CAFile: o.caFile, Timeout: v.timeout})
	if err != nil {
		return fmt.Errorf("--api-server %s: %w", o.shown(), err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), v.timeout)
	defer cancel()
	r, age, err := client.LastReport(ctx)
	if err != nil {
		return o.explain(err)
	}
	age = age.Round(time.Second)
	leader := string(r.View.Self)
	if m, ok := r.State.Members[r.View.Self]; ok {
		leader = m.Name
	}
	told := fmt.Sprintf("Reported by %s %s ago to %s", leader, age, o.shown())
	if v.form == formTable {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s\n\n", told); err != nil {
			return err
		}
	} else {
		say(c, "%s", told)
	}
	if err := v.draw(c.OutOrStdout(), r, page{table: render.Status, data: func(r ferryman.Report) any { return r }}); err != nil {
		return err
	}
	if age > late {
		return exitStatus{exitUnreachable, fmt.Errorf("nobody has reported for %s: the cluster has no leader, or its leader does not reach %s; shown is what was", age, o.shown())}
	}
	return nil
}

func (o *outside) check(c *cobra.Command, v *viewer) error {
	switch {
	case o.url == "":
		return usage("--token-file and --ca-file are for --api-server URL")
	case v.watch:
		return usage("--watch asks the agent of this host, and --api-server no agent; leave one of them out")
	case c.Flags().Changed("socket"):
		return usage("--socket names the agent of this host, and --api-server asks none; leave one of them out")
	case v.timeout <= 0:
		return usage("--timeout %s: must be more than 0", v.timeout)
	}
	return v.check()
}

// explain says what a person can do about an answer that is not the report.
func (o *outside) explain(err error) error {
	switch {
	case errors.Is(err, source.ErrUnauthorized):
		return exitStatus{exitRefused, fmt.Errorf("the api-server wants another token than that of --token-file: %w", err)}
	case errors.Is(err, ferryman.ErrUnsupported):
		return exitStatus{exitFailed, fmt.Errorf("this api-server keeps no reports; ask an agent with `ferryman status` on its host: %w", err)}
	case errors.Is(err, source.ErrNoReport):
		return exitStatus{exitUnreachable, fmt.Errorf("%w; a leader reports within seconds of its election, if its source.url is this api-server", err)}
	case errors.Is(err, ferryman.ErrInvalid):
		return exitStatus{exitFailed, err} // not the command line's fault
	}
	return err
}

// shown is the URL without a password.
func (o *outside) shown() string {
	u, err := url.Parse(o.url)
	if err != nil {
		return "(not a URL)" // it may hold a password all the same
	}
	return u.Redacted()
}
