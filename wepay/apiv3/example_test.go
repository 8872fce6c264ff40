package apiv3_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// A notification says whom it is for only once it is verified and opened.
func ExampleReadNotification() {
	shop := &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct, AppID: "wxd678efh567hg6787", MchID: "1900000001",
		APIv3Key:    "TestApiV3KeyTestApiV3KeyTestApi3",
		PublicKeyID: "PUB_KEY_ID_0119000000012024101100000000000001",
	}
	header, body, publicKey, now := receivedRequest()
	var err error
	if shop.PublicKey, err = wepay.ParsePublicKey(publicKey); err != nil {
		fmt.Println(err)
		return
	}
	merchants, err := wepay.NewMerchants(shop)
	if err != nil {
		fmt.Println(err)
		return
	}
	ring := apiv3.NewKeyRing(shop, nil, wepay.ClientOptions{})

	take := func() (*wepay.Notification, error) {
		unverified, err := apiv3.ReadNotification(header, body)
		if err != nil {
			return nil, err
		}
		key, err := ring.Key(context.Background(), unverified)
		if err != nil {
			return nil, err
		}
		sealed, err := unverified.Verify(key, now)
		if err != nil {
			return nil, err
		}
		opened, err := sealed.Open(shop.APIv3Key)
		if err != nil {
			return nil, err
		}
		merchant, err := merchants.Receiver("", opened.Recipient())
		if err != nil {
			return nil, err
		}
		return opened.Notification(merchant, merchants.AppID("", opened.Recipient())), nil
	}
	notification, err := take()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(notification.Merchant.Name, notification.Kind, notification.Fields.Get("total_fee"))

	body = append(body, '\n') // each byte is signed
	_, err = take()
	fmt.Println(errors.Is(err, wepay.ErrSignature))
	// Output:
	// shop payment 888
	// true
}

// receivedRequest is one that WeChat sent, the key that signed it, and the time when.
func receivedRequest() (header http.Header, body, publicKey []byte, at time.Time) {
	text, err := os.ReadFile("../../testdata/apiv3/vectors.json")
	if err != nil {
		panic(err)
	}
	var vectors map[string]struct {
		Headers   map[string]string `json:"headers"`
		Body      string            `json:"body"`
		PublicKey string            `json:"platform_public_key"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		panic(err)
	}
	header = http.Header{}
	for name, value := range vectors["N1"].Headers {
		header.Set(name, value)
	}
	return header, []byte(vectors["N1"].Body), []byte(vectors["K1"].PublicKey), time.Unix(1700000000, 0)
}
