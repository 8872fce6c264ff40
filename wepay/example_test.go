package wepay_test

import (
	"fmt"
	"os"

	"github.com/windsome/caddy-wepay/wepay"
)

func ExampleParsePKCS12() {
	file, err := os.ReadFile("../testdata/certificates/wechat.p12")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := wepay.ParsePKCS12(file, "1900000109") // the mch_id
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cert.Leaf.Subject.CommonName, wepay.CertificateSerial(cert.Leaf))
	// Output: 1900000109 048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5
}

func ExampleMerchants_Receiver() {
	const key = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga" // nobody's
	merchants, err := wepay.NewMerchants(
		&wepay.Merchant{Name: "page", Env: wepay.H5, MchID: "1900000109", AppID: "wx00112233445566aa", PartnerKey: key},
		&wepay.Merchant{Name: "qrcode", Env: wepay.NATIVE, MchID: "1900000109", AppID: "wx00112233445566aa", PartnerKey: key},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	receiver, err := merchants.Receiver("", wepay.Recipient{
		MchID: "1900000109", AppID: "wx00112233445566aa", TradeType: "NATIVE",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receiver.Name)
	// Output: qrcode
}
