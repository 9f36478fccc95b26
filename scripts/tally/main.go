// Command tally counts the tests of a stage, and says in the end whether every test ran somewhere.
//
//	go test -json ./... | tally stage NAME FILE
//
// passes on what go test says of packages and of tests that fail, prints how many tests passed, failed and were skipped, and appends each of them to
// FILE: stage, outcome, package and test, separated by tabs. Subtests are counted, and so are the tests that hold them.
//
//	tally sum FILE
//
// prints the counts of each stage and of all. A test that failed in any stage fails the sum, and so does one that was skipped and passed in no other.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var ok bool
	var err error
	switch {
	case len(args) == 3 && args[0] == "stage":
		ok, err = stage(args[1], args[2], stdin, stdout)
	case len(args) == 2 && args[0] == "sum":
		ok, err = sum(args[1], stdout)
	default:
		fmt.Fprintln(stderr, "usage: tally stage NAME FILE <events, or tally sum FILE")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "tally:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

const (
	passed  = "pass"
	failed  = "fail"
	skipped = "skip"
)

type counts map[string]int

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c[passed], c[failed], c[skipped])
}

// event is a line of go test -json, as in `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
}

func stage(name, file string, events io.Reader, out io.Writer) (bool, error) {
	record, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	defer record.Close()
	count := counts{}
	broken := 0 // packages that failed, with or without a test of theirs
	said := map[string]string{}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(out, "%s", line) // go test speaks plainly when it cannot begin
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if e.Test != "" {
				said[key] += e.Output
			} else if e.Output != "PASS\n" {
				fmt.Fprint(out, e.Output)
			}
		case passed, failed, skipped:
			if e.Test == "" {
				if e.Action == failed {
					broken++
				}
				continue
			}
			count[e.Action]++
			if e.Action == failed {
				fmt.Fprint(out, said[key])
			}
			if e.Action == skipped {
				fmt.Fprintf(out, "skipped: %s: %s\n", key, reason(said[key]))
			}
			delete(said, key)
			if _, err := fmt.Fprintf(record, "%s\t%s\t%s\t%s\n", name, e.Action, e.Package, e.Test); err != nil {
				return false, err
			}
		}
	}
	// What ended with its process has no outcome of its own: a panic, a time-out.
	for key, text := range said {
		if !strings.HasSuffix(key, " ") {
			fmt.Fprintf(out, "without an end: %s\n%s", key, text)
		}
	}
	fmt.Fprintf(out, "%s: %s\n", name, count)
	return broken == 0 && count[failed] == 0 && count[passed] > 0, record.Close()
}

// reason is what a test said when it skipped, without the lines of the runner.
func reason(said string) string {
	var words []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

func sum(file string, out io.Writer) (bool, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	var stages []string
	of := map[string]counts{}
	all := counts{}
	ran := map[string]bool{}
	var missing []string
	for line := range strings.Lines(string(raw)) {
		row := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(row) != 4 {
			return false, fmt.Errorf("%s: not a record: %q", file, line)
		}
		stage, outcome, test := row[0], row[1], row[2]+" "+row[3]
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
			of[stage] = counts{}
		}
		of[stage][outcome]++
		all[outcome]++
		if outcome == passed {
			ran[test] = true
		}
		if outcome == skipped && !slices.Contains(missing, test) {
			missing = append(missing, test)
		}
	}
	missing = slices.DeleteFunc(missing, func(test string) bool { return ran[test] })
	for _, stage := range stages {
		fmt.Fprintf(out, "%s: %s\n", stage, of[stage])
	}
	for _, test := range missing {
		fmt.Fprintf(out, "skipped, and run by no stage: %s\n", test)
	}
	fmt.Fprintf(out, "all stages: %s\n", all)
	return all[failed] == 0 && all[passed] > 0 && len(missing) == 0, nil
}
