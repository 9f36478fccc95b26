package ferryman

import (
	"fmt"
	"strings"
	"time"
)

var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// String writes the window as the document does: "Sun,Sat 02:00-05:00 UTC".
func (w Window) String() string {
	var days []string
	for _, d := range w.Days {
		days = append(days, weekdays[d])
	}
	text := fmt.Sprintf("%s-%s UTC", clock(w.Start), clock(w.End))
	if len(days) > 0 {
		text = strings.Join(days, ",") + " " + text
	}
	return text
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

// MarshalText writes the window as String does.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads "[Day[,Day…]] HH:MM-HH:MM [UTC]". Only UTC is accepted:
// a window that moves with daylight saving is a surprise twice a year.
func (w *Window) UnmarshalText(text []byte) error {
	fail := func() error {
		return fmt.Errorf("%q is not a window such as \"Sun 02:00-05:00 UTC\"", text)
	}
	fields := strings.Fields(string(text))
	if n := len(fields); n > 0 && fields[n-1] == "UTC" {
		fields = fields[:n-1]
	}
	var out Window
	if len(fields) == 2 {
		for _, name := range strings.Split(fields[0], ",") {
			day := -1
			for i, known := range weekdays {
				if strings.EqualFold(name, known) {
					day = i
				}
			}
			if day < 0 {
				return fail()
			}
			out.Days = append(out.Days, time.Weekday(day))
		}
		fields = fields[1:]
	}
	if len(fields) != 1 {
		return fail()
	}
	from, to, ok := strings.Cut(fields[0], "-")
	start, err1 := time.Parse("15:04", from)
	end, err2 := time.Parse("15:04", to)
	if !ok || err1 != nil || err2 != nil || from == to {
		return fail()
	}
	out.Start = time.Duration(start.Hour())*time.Hour + time.Duration(start.Minute())*time.Minute
	out.End = time.Duration(end.Hour())*time.Hour + time.Duration(end.Minute())*time.Minute
	*w = out
	return nil
}
