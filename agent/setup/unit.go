package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unitPaths are where units are, the first that has one counts; drop-ins are read from all.
var unitPaths = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// errNoUnit means that the host has no such unit.
var errNoUnit = errors.New("there is no such unit")

// findUnit returns the unit's whole name and its file. An instance's is its template.
func findUnit(root, unit string) (name, path string, err error) {
	if filepath.Ext(unit) == "" {
		unit += ".service"
	}
	if !unitName.MatchString(unit) {
		return "", "", fmt.Errorf("%q is not the name of a service", unit)
	}
	names := []string{unit}
	if at := strings.IndexByte(unit, '@'); at >= 0 {
		names = append(names, unit[:at+1]+".service")
	}
	for _, n := range names {
		for _, dir := range unitPaths {
			path := filepath.Join(root, dir, n)
			target, err := os.Readlink(path)
			switch {
			case err == nil && target == os.DevNull:
				return "", "", fmt.Errorf("unit %s is masked: systemctl unmask %s", unit, unit)
			case err == nil && filepath.Base(target) != n && n == unit:
				return "", "", fmt.Errorf("unit %s is another name of %s, which goes when that is not started at boot any more: name %s", unit, filepath.Base(target), filepath.Base(target))
			}
			if _, err := os.Stat(path); err == nil {
				return unit, path, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", "", err
			}
		}
	}
	return "", "", fmt.Errorf("unit %s: %w: install the database's package first", unit, errNoUnit)
}

// setting is the last value of a key of the section Service, in the unit's file and what others than setup added to it.
func setting(root, unit, path, key string) (string, error) {
	files := []string{path}
	names := []string{unit}
	if at := strings.IndexByte(unit, '@'); at >= 0 {
		names = append([]string{unit[:at+1] + ".service"}, names...)
	}
	for _, n := range names {
		for _, dir := range slices.Backward(unitPaths) {
			more, err := filepath.Glob(filepath.Join(root, dir, n+".d", "*.conf"))
			if err != nil {
				return "", err
			}
			files = append(files, more...)
		}
	}
	value := ""
	for _, f := range files {
		if filepath.Base(f) == dropIn {
			continue
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(raw)) {
			if k, v, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == key {
				value = strings.TrimSpace(v)
			}
		}
	}
	return value, nil
}
