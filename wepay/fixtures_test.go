package wepay_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// key is nobody's: the one of the vectors in apiv2/testdata.
const key = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"

// now lies inside the validity of every certificate in ../testdata but the
// expired one.
var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// direct returns a merchant that Validate accepts, after some changes.
func direct(changes ...func(*wepay.Merchant)) *wepay.Merchant {
	m := &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct,
		AppID: "wx00112233445566aa", MchID: "1900000109",
		PartnerKey: key, SignType: wepay.MD5,
		NotifyURL:   "https://pay.example.cn/apis/v1/wepay/pay_notify",
		CbNotifyURL: "http://orders/pay_notify",
		Endpoints:   wepay.DefaultEndpoints,
	}
	for _, change := range changes {
		change(m)
	}
	return m
}

// partner returns a merchant that acts for a sub-merchant.
func partner(changes ...func(*wepay.Merchant)) *wepay.Merchant {
	return direct(append([]func(*wepay.Merchant){func(m *wepay.Merchant) {
		m.Name, m.Type, m.SubMchID = "partner", wepay.Partner, "1900000110"
	}}, changes...)...)
}

func named(name string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.Name = name }
}

func env(e wepay.Env) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.Env = e }
}

func callback(url string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.CbNotifyURL = url }
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", "certificates", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantField demands a *wepay.FieldError about one field, or none for "".
func wantField(t *testing.T, err error, field string) *wepay.FieldError {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return nil
	}
	fieldErr, ok := errors.AsType[*wepay.FieldError](err)
	if !ok {
		t.Fatalf("got %v, want a FieldError about %s", err, field)
	}
	if fieldErr.Field != field {
		t.Fatalf("the error is about %s (%v), want %s", fieldErr.Field, err, field)
	}
	return fieldErr
}
