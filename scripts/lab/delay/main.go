//go:build linux

// Command delay is a slow cable: it passes every frame on from one network interface to another, and back, a while after it came. Not every kernel has
// netem, which does the same.
//
//	delay DURATION INTERFACE INTERFACE
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "delay:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: delay DURATION INTERFACE INTERFACE")
	}
	delay, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	a, err := open(args[1])
	if err != nil {
		return err
	}
	b, err := open(args[2])
	if err != nil {
		return err
	}
	ended := make(chan error)
	for _, way := range [][2]int{{a, b}, {b, a}} {
		frames := make(chan frame, 10000) // as many as are under way; more are lost
		go func() { ended <- receive(way[0], delay, frames) }()
		go send(way[1], frames)
	}
	return <-ended
}

type frame struct {
	due   time.Time
	bytes []byte
}

// Of linux/if_packet.h.
const (
	withHeader     = 15 // PACKET_VNET_HDR: before a frame stands what is left to do of it, a checksum or its division, and that is passed on as well
	ignoreOutgoing = 23 // PACKET_IGNORE_OUTGOING: what is sent here is not received here again
)

// open makes a socket for whole frames of an interface.
func open(name string) (int, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, int(all))
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_PACKET, ignoreOutgoing, 1)
	}
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_PACKET, withHeader, 1)
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: nic.Index})
	}
	if err != nil {
		return 0, fmt.Errorf("frames of %s: %w", name, err)
	}
	return fd, nil
}

func receive(fd int, delay time.Duration, frames chan<- frame) error {
	buffer := make([]byte, 1<<17)
	for {
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		switch {
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ENETDOWN): // a host without power
			time.Sleep(time.Millisecond)
			continue
		case err != nil:
			return err
		}
		select {
		case frames <- frame{time.Now().Add(delay), append([]byte(nil), buffer[:n]...)}:
		default:
		}
	}
}

func send(fd int, frames <-chan frame) {
	for f := range frames {
		time.Sleep(time.Until(f.due))
		_, _ = syscall.Write(fd, f.bytes) // what cannot be sent is lost, as on any cable
	}
}
