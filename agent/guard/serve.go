package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// serve answers on the socket. That it cannot be made is no reason not to hold the deadline.
func (a *active) serve(ctx context.Context) {
	var ln net.Listener
	again := time.NewTicker(killAgain)
	defer again.Stop()
	for {
		var err error
		if ln, err = a.listen(); err == nil {
			break
		}
		a.Log.Error("guard: cannot be asked; trying again", "error", err)
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	if a.Ready != nil {
		a.Ready()
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			a.Log.Error("guard: accept", "error", err) // too many files, perhaps: the deadline holds all the same
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
			continue
		}
		a.tasks.Go(func() { a.converse(ctx, conn) })
	}
}

// listen takes the place of whatever earlier guard left its socket there: only the holder of the lock does so.
func (a *active) listen() (net.Listener, error) {
	path := a.Spec.socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

func (a *active) converse(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	lines := bufio.NewReader(conn)
	for {
		raw, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		rep, last := a.answer(ctx, raw)
		raw, err = json.Marshal(rep)
		if err == nil {
			_, err = conn.Write(append(raw, '\n'))
		}
		if last {
			a.leave()
		}
		if err != nil {
			return
		}
	}
}

// answer carries out one request; last tells that this guard ends with the reply.
func (a *active) answer(ctx context.Context, raw []byte) (rep reply, last bool) {
	var req request
	err := json.Unmarshal(raw, &req)
	if err == nil {
		last, err = a.do(ctx, req)
	}
	if err != nil {
		rep.refuse(err)
	}
	rep.Status = a.status()
	if req.Op == opCheck && req.Standby != 0 {
		rep.Retire = a.pair == nil || !a.pair.heard(req.Standby)
	}
	return rep, last
}

func (a *active) do(ctx context.Context, req request) (last bool, err error) {
	switch req.Op {
	case opCheck:
		return false, nil
	case opArm:
		return false, a.change(func(s state, now time.Duration) (state, error) { return s.arm(req.Epoch, req.Deadline, now) })
	case opDisarm:
		return false, a.change(func(s state, now time.Duration) (state, error) { return s.disarm(req.Epoch, now) })
	case opRelease:
		return false, a.change(func(s state, _ time.Duration) (state, error) { return s.release() })
	case opReplace:
		if a.pair == nil {
			return false, errors.New("replace the guard: a service manager keeps this one: restart its unit")
		}
		err := a.pair.replace(ctx, req.Program, req.Args)
		return err == nil, err
	case opQuit:
		err := a.quit(ctx)
		return err == nil, err
	}
	return false, fmt.Errorf("guard: there is no request %q: is the agent of another version?", req.Op)
}
