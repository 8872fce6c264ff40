package wepay_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestFields(t *testing.T) {
	var f wepay.Fields
	// Byte order: capitals, the underscore, small letters.
	for _, name := range []string{"b", "a_1", "a", "B", "_", "a1"} {
		f.Set(name, name)
	}
	for i, name := range []string{"B", "_", "a", "a1", "a_1", "b"} {
		if f[i].Name != name {
			t.Errorf("field %d is %s, want %s", i, f[i].Name, name)
		}
	}
	f.Set("a", "again")
	if f.Get("a") != "again" || len(f) != 6 {
		t.Errorf("Set of a known name gave %v", f)
	}
	clone := f.Clone()
	clone.Set("a", "changed")
	clone.Delete("b")
	if f.Get("a") != "again" || f.Get("b") != "b" {
		t.Error("a clone shares with the original")
	}
	f.Delete("nothing")
	f.Delete("a")
	if _, found := f.Lookup("a"); found || len(f) != 5 {
		t.Errorf("Delete left %v", f)
	}
	f.Set("empty", "")
	if value, found := f.Lookup("empty"); value != "" || !found {
		t.Error("Lookup does not tell an empty field from none")
	}
	if value, found := f.Lookup("nothing"); value != "" || found {
		t.Error("Lookup finds what is not there")
	}
}

func TestFieldsMarshalJSON(t *testing.T) {
	for want, f := range map[string]wepay.Fields{
		`{}`:                nil,
		`{"total_fee":"1"}`: {{Name: "total_fee", Value: "1"}},
		`{"a":"<&>","b":"福 \"🧦\"\n","c":""}`: {{Name: "a", Value: "<&>"}, {Name: "b", Value: "福 \"🧦\"\n"}, {Name: "c"}},
	} {
		// json.Marshal would escape < and > again; the method's own text must be
		// JSON as it stands.
		got, err := f.MarshalJSON()
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestFieldsNumbered(t *testing.T) {
	f := wepay.NewFields(map[string]string{
		"total_fee": "1", "refund_count": "11", "refund_id_0": "a", "refund_id_1": "b", "refund_id_2": "c", "refund_id_10": "k",
		"coupon_refund_fee_0": "7", "coupon_refund_fee_0_0": "3", "coupon_refund_fee_0_1": "4", "coupon_refund_fee_10_0": "5",
		"refund_success_time_1": "2016-07-25 15:26:26", "x_12345": "no number of ours", "v3_0_0_0": "nor this", "_1": "nor this", "md5_0": "nor this",
	})
	want := []string{
		"[{coupon_refund_fee 7} {coupon_refund_fee_0 3} {coupon_refund_fee_1 4} {refund_id a}]",
		"[{refund_id b} {refund_success_time 2016-07-25 15:26:26}]",
		"[{refund_id c}]",
		"[{coupon_refund_fee_0 5} {refund_id k}]",
	}
	got := f.Numbered()
	for i := range want {
		if len(got) != len(want) || fmt.Sprint(got[i]) != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if got := wepay.NewFields(map[string]string{"a": "1", "b_c": "2"}).Numbered(); len(got) != 0 {
		t.Errorf("without numbers: got %v", got)
	}
}

func TestFieldsRenumber(t *testing.T) {
	f := wepay.NewFields(map[string]string{"total_fee": "1", "refund_id_0": "a", "refund_id_9": "b", "coupon_refund_fee_0_1": "4"})
	for shift, want := range map[int]string{
		0:  "[{coupon_refund_fee_0_1 4} {refund_id_0 a} {refund_id_9 b}]",
		10: "[{coupon_refund_fee_10_1 4} {refund_id_10 a} {refund_id_19 b}]",
	} {
		if got := fmt.Sprint(f.Renumber(shift)); got != want {
			t.Errorf("by %d: got %s, want %s", shift, got, want)
		}
	}
}
