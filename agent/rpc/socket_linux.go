package rpc

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inspect asks the kernel who connected, and the file which group it has.
func inspect(raw net.Conn) (p process, group uint32, err error) {
	conn, ok := raw.(*net.UnixConn)
	if !ok {
		return p, 0, fmt.Errorf("control socket: a connection of type %T", raw)
	}
	var st unix.Stat_t
	if err := unix.Stat(conn.LocalAddr().String(), &st); err != nil {
		return p, 0, fmt.Errorf("control socket: %w", err)
	}
	rc, err := conn.SyscallConn()
	if err != nil {
		return p, 0, fmt.Errorf("control socket: %w", err)
	}
	var inner error
	err = rc.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		p.uid, p.gid = cred.Uid, cred.Gid
		p.groups, inner = peerGroups(fd)
	})
	if err = errors.Join(err, inner); err != nil {
		return p, 0, fmt.Errorf("control socket: credentials of the caller: %w", err)
	}
	return p, st.Gid, nil
}

// peerGroups reads the supplementary groups of the process at the other end
// (SO_PEERGROUPS, unix(7), Linux 4.13), for which x/sys has no function. A
// kernel without it leaves the primary group.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4], nil
		case unix.ERANGE: // size says how much is needed
			groups = make([]uint32, size/4)
		case unix.ENOPROTOOPT:
			return nil, nil
		default:
			return nil, errno
		}
	}
}
