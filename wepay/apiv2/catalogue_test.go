package apiv2_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// message is one of ../../testdata/forgeries.
type message struct {
	Name, Signed, Body, Result string
	RefundID                   string `json:"refund_id"`
}

func catalogue(t testing.TB) []message {
	t.Helper()
	text, err := os.ReadFile("../../testdata/forgeries/catalogue.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []message
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// results are the errors of the catalogue's words.
var results = map[string]error{
	"taken": nil, "malformed": wepay.ErrMalformed, "foreign": wepay.ErrForeign, "unsigned": wepay.ErrUnsigned, "wrong_signature": wepay.ErrSignature,
	"ambiguous": wepay.ErrAmbiguous, "not_a_payment": wepay.ErrNotPayment, "not_confirmed": wepay.ErrUnconfirmed,
}

func TestCatalogue(t *testing.T) {
	shop, nothing, everything := asking(), newBooks(), newBooks()
	truths := make(map[string]wepay.Fields)
	for _, id := range []string{"50000000000202001010000000001", "50000000000202001010000000002", "50000000000202001010000000003"} {
		everything.refunds[id] = booked(map[string]string{"refund_id_0": id, "out_refund_no_0": "R" + id[20:]})
		n, err := everything.told(t, shop, notified(seal("<root><refund_id>"+id+"</refund_id></root>", key), ""))
		if err != nil {
			t.Fatal(err)
		}
		truths[id] = n.Fields
	}
	merchants, err := wepay.NewMerchants(shop)
	if err != nil {
		t.Fatal(err)
	}
	take := func(wechat *books, body string) (*wepay.Notification, error) {
		unverified, err := apiv2.ReadNotification([]byte(body))
		if err != nil {
			return nil, err
		}
		if _, err := merchants.Receiver("", unverified.Recipient()); err != nil {
			return nil, err
		}
		return wechat.client(shop).Verify(t.Context(), unverified)
	}
	for _, m := range catalogue(t) {
		t.Run(m.Name, func(t *testing.T) {
			want, known := results[m.Result]
			if n, err := take(nothing, m.Body); !known || !errors.Is(err, want) || (err == nil) != (m.Result == "taken") || (n == nil) != (err != nil) {
				t.Errorf("got %v, %v, want %s", n, err, m.Result)
			}
			if m.Signed != "" {
				checkSigned(t, m)
			}
			if m.RefundID == "" {
				return
			}
			if n, err := take(everything, m.Body); err != nil || !slices.Equal(n.Fields, truths[m.RefundID]) {
				t.Errorf("where WeChat knows it: got %v, %v, want %v", n, err, truths[m.RefundID])
			}
		})
	}
}

// checkSigned demands that the signature of a message is a true one.
func checkSigned(t *testing.T, m message) {
	t.Helper()
	fields, err := apiv2.Decode("xml", []byte(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	if err := apiv2.Verify(fields, key); err != nil {
		t.Error(err)
	}
	fields = slices.DeleteFunc(fields, func(f wepay.Field) bool { return f.Value == "" || f.Name == "sign" })
	if got := baseOf(fields); got != m.Signed {
		t.Errorf("it says\n%s\nsigned was\n%s", got, m.Signed)
	}
}
