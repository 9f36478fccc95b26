package ferryman

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and writes as text ("5s", "10m").
type Duration time.Duration

// Std returns d as the standard library's duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Round returns d rounded to a multiple of m.
func (d Duration) Round(m time.Duration) Duration { return Duration(time.Duration(d).Round(m)) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as Go does: "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration with a unit; a bare number is refused,
// because nobody remembers whether it means seconds.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s or 10m", text)
	}
	*d = Duration(v)
	return nil
}

// Bytes is a number of bytes that reads as a plain number or with a binary
// unit ("64KiB", "1MiB", "2GiB").
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (b Bytes) String() string {
	for _, u := range byteUnits[:3] {
		if b != 0 && int64(b)%u.factor == 0 {
			return fmt.Sprintf("%d%s", int64(b)/u.factor, u.suffix)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalJSON writes the number with its largest exact unit.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// UnmarshalJSON reads a number, or a text that UnmarshalText reads.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	return b.UnmarshalText([]byte(text))
}

// UnmarshalText reads "1MiB", "64KiB", "512B" or a plain number of bytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, factor := string(text), int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = rest, u.factor
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return fmt.Errorf("%q is not a size such as 1MiB or 4096", text)
	}
	*b = Bytes(n * factor)
	return nil
}
