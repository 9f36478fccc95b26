package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
)

// wish is a verb that asks the cluster for something and says that it was
// taken: the cluster then does it, or waits and says why.
type wish struct {
	kind  ferryman.RequestKind
	use   string
	short string
	long  string
	args  cobra.PositionalArgs // none if nil
	lasts bool                 // it may end by itself, after --for
	about func(*ferryman.Request, []string)
	said  string
}

func (w wish) command() *cobra.Command {
	var k console
	var r = ferryman.Request{Kind: w.kind}
	var lasts time.Duration
	c := &cobra.Command{Use: w.use, Short: w.short, Long: w.long, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("for") && lasts <= 0 {
				return usage("--for %s: must be more than 0", lasts)
			}
			r.For = ferryman.Duration(lasts)
			if w.about != nil {
				w.about(&r, args)
			}
			err := k.call(c, func(ctx context.Context, client *rpc.ControlClient) error { return ask(ctx, client, r) })
			if err != nil {
				return err
			}
			say(c, "%s", w.said)
			return nil
		}}
	if w.args != nil {
		c.Args = w.args
	}
	k.flags(c)
	c.Flags().StringVar(&r.Reason, "reason", "", "why, for the others who read it")
	if w.lasts {
		c.Flags().DurationVar(&lasts, "for", 0, "end it by itself after so long")
	}
	return c
}

// ask hands a request in. After a time-out nobody knows whether it was taken.
func ask(ctx context.Context, client *rpc.ControlClient, r ferryman.Request) error {
	err := client.Request(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it may have been taken or not, `ferryman events` tells: %w", err)
	}
	return err
}

// say is a message for a person; data go to stdout.
func say(c *cobra.Command, format string, args ...any) {
	fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
}
