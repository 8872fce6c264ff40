package natsoutbox

import (
	"regexp"
	"strings"
	"testing"
)

// streamOf returns a stream's name of a test's own.
func streamOf(t testing.TB) string {
	name := regexp.MustCompile(`[^A-Za-z0-9_-]+`).ReplaceAllString(strings.TrimPrefix(t.Name(), "Test"), "-")
	return name[max(0, len(name)-60):]
}

// Any text becomes one word of a subject, and each another.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"", "shop", "Shop", "=", "=3d", "a.b", "*", ">", " ", "店铺", "\x00", "shop\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		word := token(given)
		if !regexp.MustCompile(`^[a-z0-9_=-]+$`).MatchString(word) {
			t.Errorf("%q becomes %q", given, word)
		}
		if back := text(word); back != given {
			t.Errorf("%q becomes %q, and %q again", given, word, back)
		}
	})
}

func FuzzDecode(f *testing.F) {
	good, err := (&record{Event: payment("evt_1"), Mark: "m"}).encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, nil, []byte("\n"), []byte("{}\n"), []byte("null\n"), good[:20], []byte("{}"), []byte("[]\n{}")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data, 7)
		if err != nil {
			return
		}
		_ = r.free()
		again, err := r.encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if back, err := decode(again, 7); err != nil || back.ID != r.ID || string(back.Payload) != string(r.Payload) {
			t.Errorf("%q becomes %q (%v)", data, again, err)
		}
	})
}
