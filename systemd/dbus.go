package systemd

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Bus runs units of the host's systemd. The answer to a job proves little ("done" means ready only for notify and forking units, and is lost when the bus
// restarts), so every method looks at the unit itself before it reports success.
type Bus struct {
	log     *slog.Logger
	ctx     context.Context // ends with Close; the connection and its reader live in it
	end     context.CancelFunc
	reader  sync.WaitGroup
	updates chan *dbus.PropertiesUpdate
	lost    chan error
	changed chan struct{}

	connect func(context.Context) (manager, error)
	conn    chan manager // holds the connection, nil for none; whoever has it may dial
}

// NewBus connects to the system bus. Close it in the end.
func NewBus(log *slog.Logger) (*Bus, error) {
	b := newBus(log)
	b.connect = b.dial
	if _, err := b.connection(b.ctx); err != nil {
		b.end()
		return nil, err
	}
	b.reader.Go(b.read)
	return b, nil
}

func newBus(log *slog.Logger) *Bus {
	b := &Bus{
		log: log, updates: make(chan *dbus.PropertiesUpdate, 64), lost: make(chan error, 1), changed: make(chan struct{}, 1), conn: make(chan manager, 1),
	}
	b.ctx, b.end = context.WithCancel(context.Background())
	b.conn <- nil
	return b
}

// Close ends the connection.
func (b *Bus) Close() error {
	b.end()
	b.reader.Wait()
	conn := <-b.conn
	if conn != nil {
		conn.Close()
	}
	b.conn <- nil
	return nil
}

// Changed is described at Units. Any unit's change wakes: there are few on a database host, and Status tells.
func (b *Bus) Changed() <-chan struct{} { return b.changed }

func (b *Bus) read() {
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-b.updates:
		case <-b.lost: // updates came faster than we read; one wake-up stands for all of them
		}
		select {
		case b.changed <- struct{}{}:
		default:
		}
	}
}

// service completes a bare name as systemctl does.
func service(name string) string {
	switch filepath.Ext(name) {
	case ".service", ".target", ".socket", ".slice", ".scope", ".timer", ".mount", ".path":
		return name
	}
	return name + ".service"
}

func explain(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "nteractive authentication required"), strings.Contains(text, "Access denied"), strings.Contains(text, "Permission denied"):
		return fmt.Errorf("%w: the polkit rule must allow this user this unit and verb (packaging installs one)", err)
	case strings.Contains(text, "not loaded"), strings.Contains(text, "not found"):
		return fmt.Errorf("%w: %w", ErrNoUnit, err)
	}
	return err
}

// Start is described at Units.
func (b *Bus) Start(ctx context.Context, u Unit) error {
	before, _, err := b.see(ctx, u.Name)
	if err != nil || before.State == StateRunning {
		return err
	}
	result, err := b.do(ctx, starts, "start", u.Name, before)
	if err != nil {
		return err
	}
	return b.started(ctx, "start", u.Name, result, before)
}

// Restart is described at Units.
func (b *Bus) Restart(ctx context.Context, u Unit) error {
	before, _, err := b.see(ctx, u.Name)
	if err != nil {
		return err
	}
	result, err := b.do(ctx, restarts, "restart", u.Name, before)
	if err != nil {
		return err
	}
	return b.started(ctx, "restart", u.Name, result, before)
}

// see is look that waits for a bus which is being restarted just now.
func (b *Bus) see(ctx context.Context, name string) (st UnitStatus, group string, err error) {
	err = patient(ctx, func() error {
		st, group, err = b.look(ctx, name)
		return err
	})
	return st, group, err
}

// Once starts a unit that ends by itself (Type=oneshot), and returns when it did; one that runs already is waited for. The error says that it failed, or
// that nobody could tell; why is for the unit to have said.
func (b *Bus) Once(ctx context.Context, name string) error {
	before, _, err := b.see(ctx, name)
	if err != nil {
		return err
	}
	result, err := b.do(ctx, starts, "start", name, before)
	if err == nil && result != "done" {
		err = fmt.Errorf("start unit %s: systemd says %q", name, result)
	}
	return err
}

// started checks the effect: it runs, and it is another start than before.
func (b *Bus) started(ctx context.Context, what, name, result string, before UnitStatus) error {
	now, _, err := b.see(ctx, name)
	if err != nil {
		return err
	}
	if (result == "done" || result == unsaid) && now.State == StateRunning && now.StartID != before.StartID {
		return nil
	}
	hint := "see journalctl -u " + service(name)
	if result == "failed" && now.StartID == before.StartID {
		hint = fmt.Sprintf("it was not even begun: mostly because it ended too often (StartLimitBurst=); mend why (journalctl -u %[1]s), then systemctl reset-failed %[1]s",
			service(name))
	}
	return fmt.Errorf("%s unit %s: systemd says %q, and the unit is %s (result %q, exit code %d); %s", what, name, result, now.State, now.Result, now.ExitCode, hint)
}

// Stop is described at Units.
func (b *Bus) Stop(ctx context.Context, name string) error {
	before, group, err := b.see(ctx, name)
	if err != nil {
		return err
	}
	// Also when it is not active: the job cancels a restart that the unit's own policy has planned.
	result, err := b.do(ctx, stops, "stop", name, before)
	if err != nil {
		return err
	}
	return b.empty(ctx, "stop", name, result, group)
}

// Kill is described at Units.
func (b *Bus) Kill(ctx context.Context, name string) error {
	before, group, err := b.see(ctx, name)
	if err != nil {
		return err
	}
	if before.Active {
		conn, err := b.connection(ctx)
		if err == nil {
			err = conn.KillUnitWithTarget(ctx, service(name), dbus.All, int32(syscall.SIGKILL))
		}
		if err != nil {
			// It may have ended just now. The stop and the look at its group below decide.
			b.log.Warn("kill unit", "unit", name, "err", explain(err))
		}
	}
	result, err := b.do(ctx, stops, "kill", name, before)
	if err != nil {
		return err
	}
	return b.empty(ctx, "kill", name, result, group)
}

// empty checks the effect of a stop: the unit says that it is down, and its control group, which no process can leave by itself, is empty.
func (b *Bus) empty(ctx context.Context, what, name, result, group string) error {
	now, _, err := b.see(ctx, name)
	if err != nil {
		return err
	}
	left, err := cgroupProcs(group)
	if err != nil {
		return fmt.Errorf("%s unit %s: look for its processes: %w", what, name, err)
	}
	if now.Active || len(left) > 0 {
		return fmt.Errorf("%s unit %s: %w: systemd says %q, the unit is %s, processes left: %v", what, name, ErrNotEmpty, result, now.State, left)
	}
	return nil
}

// Status is described at Units. ErrNoUnit when systemd has no such unit.
func (b *Bus) Status(ctx context.Context, name string) (UnitStatus, error) {
	st, _, err := b.look(ctx, name)
	return st, err
}

// Target is described at Units.
func (b *Bus) Target(ctx context.Context, name string) (Target, error) {
	_, svc, err := b.properties(ctx, name)
	if err != nil {
		return Target{}, err
	}
	group, err := unitCgroup(service(name), svc)
	if err != nil {
		return Target{}, err
	}
	dir, err := cgroupDir(group)
	return Target{Cgroup: dir}, err
}

// look reads the unit's status and its control group.
func (b *Bus) look(ctx context.Context, name string) (UnitStatus, string, error) {
	unit, svc, err := b.properties(ctx, name)
	if err != nil {
		return UnitStatus{}, "", err
	}
	group, _ := svc["ControlGroup"].(string)
	return unitStatus(unit, svc), group, nil
}

// properties reads what org.freedesktop.systemd1(5) says of the unit, and of it as a service.
func (b *Bus) properties(ctx context.Context, name string) (unit, svc map[string]any, err error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	conn, err := b.connection(ctx)
	if err != nil {
		return nil, nil, err
	}
	unit, err = conn.GetUnitPropertiesContext(ctx, service(name))
	if err != nil {
		return nil, nil, fmt.Errorf("status of unit %s: %w", name, explain(err))
	}
	if load, _ := unit["LoadState"].(string); load != "loaded" {
		return nil, nil, fmt.Errorf("status of unit %s: %w: %s", name, ErrNoUnit, unloaded(load, service(name)))
	}
	svc, err = conn.GetUnitTypePropertiesContext(ctx, service(name), "Service")
	if err != nil {
		return nil, nil, fmt.Errorf("status of unit %s: %w", name, explain(err))
	}
	return unit, svc, nil
}

// unloaded says why systemd cannot run a unit, and what to do.
func unloaded(load, unit string) string {
	switch load {
	case "not-found":
		return "systemd finds no unit file of that name: is its package installed, and the name right (systemctl list-unit-files)?"
	case "masked":
		return "it is masked, so that nothing can start it: systemctl unmask " + unit
	}
	return fmt.Sprintf("its load state is %q: systemctl status %s says why", load, unit)
}

func unitStatus(unit, svc map[string]any) UnitStatus {
	st := UnitStatus{Active: true, ExitCode: -1}
	active, _ := unit["ActiveState"].(string)
	since := "ActiveEnterTimestamp"
	switch active {
	case "activating":
		st.State, since = StateStarting, "InactiveExitTimestamp"
	case "deactivating":
		st.State = StateStopping
	case "inactive":
		st.State, st.Active, since = StateStopped, false, "InactiveEnterTimestamp"
	case "failed":
		st.State, st.Active, since = StateFailed, false, "InactiveEnterTimestamp"
	default: // active, reloading, refreshing
		st.State = StateRunning
	}
	if usec, _ := unit[since].(uint64); usec > 0 {
		st.Since = time.UnixMicro(int64(usec))
	}
	if id, _ := unit["InvocationID"].([]byte); len(id) > 0 {
		st.StartID = hex.EncodeToString(id)
	}
	if pid, _ := svc["MainPID"].(uint32); pid > 0 {
		st.PID = int(pid)
	}
	st.Command = command(svc["ExecStart"])
	st.Restart, _ = svc["Restart"].(string)
	if st.Active {
		return st
	}
	st.Result, _ = svc["Result"].(string)
	status, _ := svc["ExecMainStatus"].(int32)
	switch code, _ := svc["ExecMainCode"].(int32); code { // waitid(2): 1 CLD_EXITED, 2 CLD_KILLED, 3 CLD_DUMPED
	case 1:
		st.ExitCode = int(status)
	case 2, 3:
		st.ExitCode = 128 + int(status)
	}
	return st
}

// command is a property such as ExecStart: of each command its path, its arguments, and how it went.
func command(property any) string {
	commands, _ := property.([][]any)
	var all []string
	for _, c := range commands {
		if len(c) > 1 {
			args, _ := c[1].([]string)
			all = append(all, strings.Join(args, " "))
		}
	}
	return strings.Join(all, "; ")
}

// cgroupProcs lists the processes in a unit's control group and below it; one that is not there has none.
func cgroupProcs(group string) ([]int, error) {
	if group == "" || group == "/" {
		return nil, nil
	}
	var all []int
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} { // v2, hybrid, v1
		pids, err := cgroupPids(filepath.Join(mount, group))
		if err != nil {
			return nil, err
		}
		all = append(all, pids...)
	}
	return all, nil
}
