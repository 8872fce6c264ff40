package clock

import (
	"testing"
	"time"
)

// system is a system whose clock can be set.
type system struct {
	set     time.Duration
	elapsed time.Duration
	steps   []time.Duration
	ahead   []time.Duration
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *system) wall() time.Time { return start.Add(s.elapsed + s.set) }

func (s *system) clock() *Clock {
	c := New(s.wall, func() time.Duration { return s.elapsed })
	c.OnStep(func(step, ahead time.Duration) { s.steps, s.ahead = append(s.steps, step), append(s.ahead, ahead) })
	return c
}

// runs lets time go by, and reads the clock each second.
func (s *system) runs(c *Clock, duration time.Duration) {
	for end := s.elapsed + duration; s.elapsed < end; {
		s.elapsed += min(time.Second, end-s.elapsed)
		c.Now()
	}
}

const day = 24 * time.Hour

// A clock that is set takes this one along slowly, forwards and backwards, to
// where it is right again.
func TestFollows(t *testing.T) {
	for name, test := range map[string]struct {
		set        time.Duration
		for_       time.Duration // how long it is set so; then it is right again
		wait       time.Duration // from then on
		least, end time.Duration // how far it is off then, against a clock that was never set
	}{
		"never set":              {0, 0, time.Hour, 0, 0},
		"ahead, at once":         {4 * day, 0, 0, 0, 0},
		"ahead, for 5 s":         {4 * day, 5 * time.Second, 0, 5 * time.Second, 5 * time.Second},
		"ahead for 5 s, later":   {4 * day, 5 * time.Second, 10 * time.Second, 0, 0},
		"ahead for an hour":      {day, time.Hour, 0, time.Hour, time.Hour},
		"ahead for good":         {time.Hour, 2 * time.Hour, 0, time.Hour, time.Hour},
		"behind for an hour":     {-day, time.Hour, 0, -time.Hour / 2, -time.Hour / 2},
		"behind, an hour later":  {-day, time.Hour, time.Hour, 0, 0},
		"behind by less than it": {-time.Minute, time.Hour, 0, -time.Minute, -time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			var s system
			c := s.clock()
			s.runs(c, time.Minute)
			s.set = test.set
			s.runs(c, test.for_)
			s.set = 0
			s.runs(c, test.wait)
			s.set = test.set // whatever it says at this moment
			off := c.Now().Sub(start.Add(s.elapsed))
			if off < test.least || off > test.end {
				t.Errorf("it is off by %s, want %s to %s", off, test.least, test.end)
			}
		})
	}
}

// Whatever the system's clock does, this one runs between half as fast and twice
// as fast, and a clock that is not read for long does not catch up all at once.
func TestRate(t *testing.T) {
	var s system
	c := s.clock()
	before := c.Now()
	for n := range 10_000 {
		passed := time.Duration(n%7) * time.Second
		s.elapsed += passed
		s.set = []time.Duration{0, day, -day, 400 * day, -time.Hour, time.Millisecond}[n*n%6]
		now := c.Now()
		if ran := now.Sub(before); ran < passed/2 || ran > 2*passed {
			t.Fatalf("in %s it ran %s", passed, ran)
		}
		before = now
	}
	s.set = before.Sub(start) - s.elapsed // the two agree
	c.Now()
	s.elapsed += day
	s.set += 4 * day
	if ran := c.Now().Sub(before); ran > day+longestFollowing {
		t.Errorf("in a day it ran %s", ran)
	}
}

// A step is told once, by its size and direction; what clocks differ by anyway is
// not.
func TestSteps(t *testing.T) {
	var s system
	c := s.clock()
	for _, set := range []time.Duration{0, time.Second, day, day, 0, -time.Hour, -time.Hour + time.Second} {
		s.set = set
		s.runs(c, time.Minute)
	}
	want := []time.Duration{day - time.Second, -day, -time.Hour}
	if len(s.steps) != len(want) {
		t.Fatalf("told %s", s.steps)
	}
	for i, step := range s.steps {
		if step != want[i] {
			t.Errorf("told %s, want %s", step, want[i])
		}
	}
	if s.ahead[0] < day-2*time.Second || s.ahead[2] > 2*time.Second-time.Hour {
		t.Errorf("told that the system's clock is ahead by %s", s.ahead)
	}
}

// What is old is old by both clocks: neither one that starts ahead nor one that
// is set so makes it that.
func TestAge(t *testing.T) {
	s := system{set: 4 * day, elapsed: time.Hour}
	c, began := s.clock(), start.Add(s.elapsed)
	if age := c.Age(began); age != 4*day {
		t.Errorf("a clock that starts ahead: %s", age)
	}
	s.runs(c, 5*time.Second)
	s.set = 0
	if age := c.Age(began); age != 5*time.Second || c.Running() != age {
		t.Errorf("once it is right: %s after %s", age, c.Running())
	}
	s = system{}
	c = s.clock()
	s.set = 4 * day
	s.runs(c, time.Minute)
	if age := c.Age(start); age > 2*time.Minute {
		t.Errorf("a clock set ahead: %s", age)
	}
}

// The system's own clock runs as time does.
func TestSystem(t *testing.T) {
	c := System()
	before := time.Now()
	if now := c.Now(); now.Before(before.Add(-time.Minute)) || now.After(time.Now().Add(time.Minute)) {
		t.Errorf("it says %s", now)
	}
	if c.now != c.now.Round(0) || c.seen != c.seen.Round(0) {
		t.Errorf("it goes by the monotonic clock, which no step is seen by: %s, %s", c.now, c.seen)
	}
}
