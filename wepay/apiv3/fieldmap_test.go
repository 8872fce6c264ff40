package apiv3

import "testing"

func TestShownText(t *testing.T) {
	for _, row := range []struct{ given, want string }{
		{"袜子 & <手套>", "袜子 & <手套>"},
		{" 茶 ", " 茶 "},
		{"袜子 🧦", "袜子"},
		{"🧦袜🧦子", "袜子"},
		{"🧦", ""},
	} {
		got, err := shown.write(row.given)
		if text, _ := got.(string); text != row.want || (err != nil) != (row.want == "") {
			t.Errorf("%q becomes %q, error %v, want %q", row.given, got, err, row.want)
		}
	}
	if _, err := text.write("shelf 🧦"); err == nil {
		t.Error("what comes back to the merchant was changed or sent with an emoji")
	}
}
