package demo

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// attempt is one write that a client of one instance tried, under a key of its
// own.
type attempt struct {
	instance       string
	key            string
	sent, answered time.Time
	outcome        outcome
}

// outcome is what the client knows of its write.
type outcome int

const (
	refused      outcome = iota // nothing was written
	unknown                     // it may have been written, or be written yet
	accepted                    // the instance has it; no promise was made
	acknowledged                // the promise of the database's replication holds for it
)

func (a attempt) taken() bool { return a.outcome == accepted || a.outcome == acknowledged }

// reign is what is committed of one primary. It lasts until the next epoch is
// committed.
type reign struct {
	epoch    uint64
	instance string
	from     time.Time
}

// unlawful returns the writes that an instance took without being the primary,
// or after another one had begun to take writes. Every write must find an epoch
// of its instance: one that was committed before the write was answered, and
// whose successor was committed after it was sent; and no earlier one than any
// write that was over before it was sent. The first that is possible is the best:
// it leaves most to the others. Which epoch each one found is returned, too,
// as its index among the reigns; -1 is none.
//
// All times are of one host. A wall clock that jumps makes it report too much,
// never too little.
func unlawful(writes []attempt, reigns []reign) (found []int, problems []string) {
	for i := 1; i < len(reigns); i++ {
		if reigns[i].epoch != reigns[i-1].epoch+1 {
			problems = append(problems, fmt.Sprintf("nothing is known of the epochs between %d and %d", reigns[i-1].epoch, reigns[i].epoch))
		}
	}
	found = make([]int, len(writes))
	var bySent, byAnswer []int
	for i, w := range writes {
		if found[i] = -1; w.taken() {
			bySent, byAnswer = append(bySent, i), append(byAnswer, i)
		}
	}
	slices.SortFunc(bySent, func(a, b int) int { return writes[a].sent.Compare(writes[b].sent) })
	slices.SortFunc(byAnswer, func(a, b int) int { return writes[a].answered.Compare(writes[b].answered) })
	floor, last := 0, -1 // the least epoch that is left, and the write that made it so
	for _, i := range bySent {
		w := writes[i]
		for len(byAnswer) > 0 && writes[byAnswer[0]].answered.Before(w.sent) {
			if before := byAnswer[0]; found[before] >= floor {
				floor, last = found[before], before
			}
			byAnswer = byAnswer[1:]
		}
		for r := floor; r < len(reigns); r++ {
			if reigns[r].rules(w, reigns[r+1:]) {
				found[i] = r
				break
			}
		}
		if found[i] < 0 {
			problems = append(problems, blame(w, writes, last, reigns[min(floor, len(reigns)):]))
		}
	}
	return found, problems
}

// rules tells whether the write can be one of this reign.
func (r reign) rules(w attempt, later []reign) bool {
	return r.instance == w.instance && !w.answered.Before(r.from) && (len(later) == 0 || !w.sent.After(later[0].from))
}

func blame(w attempt, writes []attempt, last int, reigns []reign) string {
	const clock = "15:04:05.000000"
	text := fmt.Sprintf("%s took %s (%s to %s), and was not the primary then", w.instance, w.key, w.sent.Format(clock), w.answered.Format(clock))
	if last >= 0 {
		before := writes[last]
		text += fmt.Sprintf("; %s had taken %s by %s", before.instance, before.key, before.answered.Format(clock))
	}
	for i, r := range reigns[:min(3, len(reigns))] {
		text += fmt.Sprintf("; epoch %d: %s from %s", reigns[i].epoch, r.instance, r.from.Format(clock))
	}
	return text
}

// missing are the writes of an outcome that the primary does not hold.
func missing(writes []attempt, of outcome, held map[string]string) (lost []attempt) {
	for _, w := range writes {
		if w.outcome == of && held[w.key] != valueOf(w.key) {
			lost = append(lost, w)
		}
	}
	return lost
}

func valueOf(key string) string { return "value of " + key }

// gap is the longest time between from and to in which no write was
// acknowledged, or with it accepted.
func gap(writes []attempt, least outcome, from, to time.Time) (longest time.Duration) {
	answers := []time.Time{from}
	for _, w := range writes {
		if w.outcome >= least && w.answered.After(from) && w.answered.Before(to) {
			answers = append(answers, w.answered)
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	for i, at := range append(answers, to)[1:] {
		longest = max(longest, at.Sub(answers[i]))
	}
	return longest
}

// lostBytes is what the lost writes weigh in each epoch: the bytes of the
// commands as the primary passes them on to its replicas.
func lostBytes(writes []attempt, found []int, reigns []reign, lost []attempt) map[uint64]int {
	epochs := map[string]uint64{}
	for i, w := range writes {
		if found[i] >= 0 {
			epochs[w.key] = reigns[found[i]].epoch
		}
	}
	out := map[uint64]int{}
	for _, w := range lost {
		key, value := w.key, valueOf(w.key)
		out[epochs[w.key]] += len(fmt.Sprintf("*3\r\n$3\r\nset\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value))
	}
	return out
}

// median of what was measured; zero of nothing.
func median[T cmp.Ordered](all []T) (m T) {
	if all = slices.Sorted(slices.Values(all)); len(all) > 0 {
		m = all[len(all)/2]
	}
	return m
}
