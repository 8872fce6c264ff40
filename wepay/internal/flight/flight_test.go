package flight_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/flight"
)

// source is what a Flight fetches: each fetch takes a second and brings the next
// number, or the error.
type source struct {
	began, ended int
	err          error
}

func (s *source) fetch(ctx context.Context) (int, error) {
	s.began++
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	s.ended++
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return s.began, s.err
}

func TestGetOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		f := flight.New("numbers", time.Now, s.fetch)
		const callers = 9
		got := make(chan int, callers)
		for range callers {
			go func() {
				n, err := f.Get(t.Context(), time.Minute, 0)
				if err != nil {
					t.Error(err)
				}
				got <- n
			}()
		}
		for range callers {
			if n := <-got; n != 1 {
				t.Errorf("got the result of fetch %d", n)
			}
		}
	})
}

func TestGetAgain(t *testing.T) {
	failed := errors.New("no connection")
	for name, test := range map[string]struct {
		err          error
		fresh, retry time.Duration
		wait         time.Duration // since the fetch before began
		want         int           // fetches
	}{
		"a value that is fresh":       {nil, time.Minute, 0, time.Minute - 1, 1},
		"a value that is old":         {nil, time.Minute, 0, time.Minute, 2},
		"a value, whatever its age":   {nil, 0, 0, time.Second, 2},
		"a failure at once":           {failed, time.Minute, 0, time.Second, 2},
		"a failure before it is time": {failed, time.Minute, 5 * time.Second, 5*time.Second - 1, 1},
		"a failure once it is time":   {failed, time.Minute, 5 * time.Second, 5 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{err: test.err}
				f := flight.New("numbers", time.Now, s.fetch)
				began := time.Now()
				for range 2 {
					if _, err := f.Get(t.Context(), test.fresh, test.retry); !errors.Is(err, test.err) {
						t.Errorf("got %v, want %v", err, test.err)
					}
					time.Sleep(time.Until(began.Add(test.wait)))
				}
				if s.began != test.want {
					t.Errorf("fetched %d times, want %d", s.began, test.want)
				}
			})
		})
	}
}

func TestGetGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		f := flight.New("numbers", time.Now, s.fetch)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := f.Get(ctx, time.Minute, 0); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("got %v", err)
		}
		if n, err := f.Get(t.Context(), time.Minute, 0); n != 1 || err != nil {
			t.Errorf("the fetch did not outlive its caller: %d, %v", n, err)
		}
	})
}

func TestForgetAndAssume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		f := flight.New("numbers", time.Now, s.fetch)
		f.Assume(7, time.Now().Add(time.Hour))
		if began, _ := f.Last(); !began.IsZero() {
			t.Error("took a value from the future")
		}
		stored := time.Now().Add(-time.Second)
		f.Assume(7, stored)
		f.Assume(8, stored)
		if n, err := f.Get(t.Context(), time.Minute, 0); n != 7 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		f.Forget()
		if n, err := f.Get(t.Context(), time.Minute, 0); n != 1 || err != nil {
			t.Errorf("got %d, %v after it was forgotten", n, err)
		}
	})
}

// A closed Flight goes on for those who wait, and for nobody else.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		f := flight.New("numbers", time.Now, s.fetch)
		ctx, giveUp := context.WithCancel(t.Context())
		go f.Get(ctx, time.Minute, 0)
		synctest.Wait()
		f.Close()
		if s.ended != 0 {
			t.Error("ended a fetch that a caller waits for")
		}
		giveUp()
		synctest.Wait()
		if began, _ := f.Last(); s.ended != 1 || !began.IsZero() {
			t.Errorf("a fetch that nobody waits for: ended %d times, began %s", s.ended, began)
		}
		if n, err := f.Get(t.Context(), time.Minute, 0); n != 2 || err != nil {
			t.Errorf("after Close: %d, %v", n, err)
		}
	})
}

// Close waits for the fetch that it ends.
func TestCloseEndsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		f := flight.New("numbers", time.Now, s.fetch)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := f.Get(ctx, time.Minute, 0); err == nil {
			t.Fatal("the fetch took no time")
		}
		f.Close()
		if s.ended != 1 {
			t.Error("Close returned before the fetch ended")
		}
	})
}
