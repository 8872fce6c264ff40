package apiv2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// The sample of WeChat Pay's own documents.
func ExampleSign() {
	fields := wepay.NewFields(map[string]string{
		"appid":       "wxd930ea5d5a258f4f",
		"mch_id":      "10000100",
		"device_info": "1000",
		"body":        "test",
		"nonce_str":   "ibuaiVcKdpRxkhJA",
	})
	fmt.Println(apiv2.Sign(fields, wepay.MD5, "192006250b4c09247ec02edce69f6a2d"))
	// Output: 9A0A8659F005D6984697E2CA0A9CF3B7
}

func ExampleReadNotification() {
	shop := &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct,
		AppID: "wx00112233445566aa", MchID: "1900000109", PartnerKey: "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga",
	}
	merchants, err := wepay.NewMerchants(shop)
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := os.ReadFile("../../testdata/notifications/v20.xml") // of the request that WeChat sent
	if err != nil {
		fmt.Println(err)
		return
	}

	unverified, err := apiv2.ReadNotification(body)
	if err != nil {
		fmt.Println(err)
		return
	}
	merchant, err := merchants.Receiver("", unverified.Recipient())
	if err != nil {
		fmt.Println(err)
		return
	}
	client := apiv2.NewClient(merchant, wepay.ClientOptions{})
	notification, err := client.Verify(context.Background(), unverified)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(merchant.Name, notification.Kind, notification.Fields.Get("total_fee"))

	forged, err := apiv2.ReadNotification(bytes.ReplaceAll(body, []byte("1200"), []byte("1")))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.Verify(context.Background(), forged)
	fmt.Println(errors.Is(err, wepay.ErrSignature))
	// Output:
	// shop payment 1200
	// true
}
