package apiv2_test

import (
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// Run them with
//
//	go test ./wepay/apiv2 -run '^$' -bench . -count 6

func BenchmarkReadAndVerify(b *testing.B) {
	body, shop := testdata(b, "v20.xml"), apiv2.NewClient(merchant(), wepay.ClientOptions{})
	b.ReportAllocs()
	for b.Loop() {
		unverified, err := apiv2.ReadNotification(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := shop.Verify(b.Context(), unverified); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	body := testdata(b, "v20.xml")
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := apiv2.Decode("xml", body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-xml", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := reference(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	fields, err := apiv2.Decode("xml", testdata(b, "v20.xml"))
	if err != nil {
		b.Fatal(err)
	}
	for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
		b.Run(string(signType), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				apiv2.Sign(fields, signType, key)
			}
		})
	}
}
