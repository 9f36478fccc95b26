// Package fake is a journal's file in memory, for tests in virtual time and for crashes at each write.
package fake

import (
	"fmt"
	"io/fs"
	"slices"
	"sync"
)

// File is a runner.File in memory; the zero value was never written. It outlives the agent that writes it, as a disk does.
type File struct {
	mu      sync.Mutex
	content []byte
	written bool
	aside   [][]byte
	saves   int
	fault   func(save int) Fault
}

// Fault is what happens at one write.
type Fault int

// A write succeeds, fails and leaves the old content, or fails although the new content is there (a sync that failed after the rename).
const (
	None Fault = iota
	Lost
	Kept
)

// Set makes content what is there, as if it had been saved.
func (f *File) Set(content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.written = slices.Clone(content), true
}

// Fault asks before each further write, which are numbered from 1, what happens to it; nil means that nothing does.
func (f *File) Fault(fault func(save int) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saves, f.fault = 0, fault
}

// Saves is how many writes were tried since Fault.
func (f *File) Saves() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saves
}

// Aside is what was set aside.
func (f *File) Aside() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.aside)
}

// Load is described at runner.File.
func (f *File) Load() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.written {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(f.content), nil
}

// Save is described at runner.File.
func (f *File) Save(content []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saves++
	fault := None
	if f.fault != nil {
		fault = f.fault(f.saves)
	}
	if fault != Lost {
		f.content, f.written = slices.Clone(content), true
	}
	if fault != None {
		return fmt.Errorf("write %d: no space left on the fake device", f.saves)
	}
	return nil
}

// SetAside is described at runner.File.
func (f *File) SetAside(content []byte) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aside = append(f.aside, slices.Clone(content))
	return fmt.Sprintf("aside %d", len(f.aside)), nil
}
