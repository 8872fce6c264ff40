package caddymodule

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// HoldLargeNotifications takes the room of all large notifications.
func HoldLargeNotifications(t *testing.T) (release func()) {
	t.Helper()
	if !largeNotifications.TryAcquire(roomForLarge) {
		t.Fatal("somebody holds some of the room")
	}
	return func() { largeNotifications.Release(roomForLarge) }
}

// A small body needs no room; a larger one takes what there is, once, and gives it
// back.
func TestIntake(t *testing.T) {
	read := func(size int) (*intake, error) {
		in := &intake{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat(" ", size)))}
		text, err := io.ReadAll(in)
		if err == nil && len(text) != size {
			t.Errorf("of %d bytes %d are read", size, len(text))
		}
		return in, err
	}
	release := HoldLargeNotifications(t)
	if _, err := read(smallNotification - 1); err != nil {
		t.Error(err)
	}
	if _, err := read(smallNotification + 1); !errors.Is(err, wepay.ErrBusy) {
		t.Errorf("got %v", err)
	}
	release()
	var held []*intake
	for range roomForLarge / maxBody {
		in, err := read(maxBody)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, in)
	}
	if _, err := read(maxBody); !errors.Is(err, wepay.ErrBusy) {
		t.Errorf("got %v", err)
	}
	for _, in := range held {
		in.release()
		in.release()
	}
	HoldLargeNotifications(t)()
}
