package apiv2_test

import (
	"crypto/aes"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// booked is WeChat's answer about V25's refund after some changes; an empty value
// takes a field out.
func booked(changes map[string]string) wepay.Fields {
	all := map[string]string{
		"transaction_id": "4200000000202001010000000001", "out_trade_no": "5ba27cc3a70db45dd108b53f", "total_fee": "1200",
		"cash_fee": "1200", "fee_type": "CNY", "refund_count": "1",
		"out_refund_no_0": "5ba27cc3a112233554444331", "refund_id_0": "50000000000202001010000000001", "refund_fee_0": "1100",
		"refund_channel_0": "ORIGINAL", "refund_status_0": "SUCCESS", "refund_success_time_0": "2020-01-01 12:30:00",
		"refund_recv_accout_0": "招商银行信用卡0403", "refund_account_0": "REFUND_SOURCE_RECHARGE_FUNDS",
	}
	maps.Copy(all, changes)
	return slices.DeleteFunc(reply(all), func(f wepay.Field) bool { return f.Value == "" })
}

// books are a WeChat that answers questions about refunds by what is booked.
type books struct {
	refunds map[string]wepay.Fields // by refund_id
	does    func(*http.Request) error

	mu    sync.Mutex
	asked []wepay.Fields
}

func newBooks(refunds ...wepay.Fields) *books {
	b := &books{refunds: make(map[string]wepay.Fields)}
	for _, refund := range refunds {
		b.refunds[refund.Get("refund_id_0")] = refund
	}
	return b
}

// client is one of a merchant that asks here.
func (b *books) client(m *wepay.Merchant) *apiv2.Client {
	return apiv2.NewClient(m, wepay.ClientOptions{Transport: transport(b.answer)})
}

func (b *books) answer(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	in, err := apiv2.Decode("xml", body)
	if err != nil {
		return nil, err
	}
	if err := apiv2.Verify(in, key); err != nil || r.URL.Path != "/pay/refundquery" {
		return nil, errors.New("WeChat was asked something else")
	}
	b.mu.Lock()
	b.asked = append(b.asked, in)
	b.mu.Unlock()
	if b.does != nil {
		if err := b.does(r); err != nil {
			return nil, err
		}
	}
	out, found := b.refunds[in.Get("refund_id")]
	if !found {
		out = reply(map[string]string{"result_code": "FAIL", "err_code": "REFUNDNOTEXIST", "err_code_des": "退款不存在"})
	}
	return httpReply(signed(out, wepay.MD5, key)), nil
}

func httpReply(text string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
}

// questions are what was asked.
func (b *books) questions() []wepay.Fields {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}

// told takes a refund's notification all the way.
func (b *books) told(t *testing.T, m *wepay.Merchant, body string) (*wepay.Notification, error) {
	t.Helper()
	unverified, err := apiv2.ReadNotification([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return b.client(m).Verify(t.Context(), unverified)
}

func asking() *wepay.Merchant { return merchant("https://wechat.invalid") }

// saying is V25's notification with another text in it.
func saying(t *testing.T, changes ...string) string {
	t.Helper()
	text := refundText(t)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("there is no %s", changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	return notified(seal(text, key), "")
}

// What WeChat answers is handed over, under the names that the notification has
// for it, and nothing that nobody signed.
func TestRefundConfirmed(t *testing.T) {
	wechat := newBooks(booked(nil))
	n, err := wechat.told(t, asking(), string(testdata(t, "v25.xml")))
	if err != nil {
		t.Fatal(err)
	}
	if n.Kind != wepay.Refunded || n.Merchant == nil || n.Merchant.Name != "shop" {
		t.Errorf("got kind %q of %v", n.Kind, n.Merchant)
	}
	want := wepay.NewFields(map[string]string{
		"appid": "wx00112233445566aa", "mch_id": "1900000109", "return_code": "SUCCESS",
		"out_refund_no": "5ba27cc3a112233554444331", "out_trade_no": "5ba27cc3a70db45dd108b53f",
		"refund_account": "REFUND_SOURCE_RECHARGE_FUNDS", "refund_fee": "1100", "refund_id": "50000000000202001010000000001",
		"refund_recv_accout": "招商银行信用卡0403", "refund_status": "SUCCESS",
		"settlement_refund_fee": "1100", "settlement_total_fee": "1200", "success_time": "2020-01-01 12:30:00",
		"total_fee": "1200", "transaction_id": "4200000000202001010000000001",
	})
	if !slices.Equal(n.Fields, want) {
		t.Errorf("got %v, want %v", n.Fields, want)
	}
	asked := wechat.questions()
	if len(asked) != 1 || asked[0].Get("refund_id") != want.Get("refund_id") || asked[0].Get("out_refund_no") != "" || asked[0].Get("out_trade_no") != "" {
		t.Errorf("WeChat was asked %v", asked)
	}
}

// Of the notification itself counts only which refund it is about, and nothing
// of what stands around it.
func TestRefundIsAHint(t *testing.T) {
	wechat := newBooks(booked(map[string]string{"settlement_total_fee": "1000", "settlement_refund_fee_0": "900"}))
	truth, err := wechat.told(t, asking(), saying(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"another order":      saying(t, "5ba27cc3a70db45dd108b53f", "VICTIM"),
		"another payment":    saying(t, "4200000000202001010000000001", "4200000000202001010000000002"),
		"other amounts":      saying(t, "[1100]", "[1]", "[1200]", "[99]"),
		"another number":     saying(t, "5ba27cc3a112233554444331", "R9"),
		"another receiver":   saying(t, "招商银行", "工商银行"),
		"a field more":       saying(t, "</root>", "<mch_id>1900000110</mch_id><sub_mch_id>1</sub_mch_id></root>"),
		"hardly anything":    notified(seal("<root><refund_id>50000000000202001010000000001</refund_id><refund_status>SUCCESS</refund_status></root>", key), ""),
		"fields around it":   notified(seal(refundText(t), key), "<sub_appid>wx1</sub_appid><return_msg>x</return_msg><refund_fee>1</refund_fee><refund_status>CHANGE</refund_status><attach>x</attach><sign>x</sign>"),
		"closed, which once": saying(t, "[SUCCESS]", "[REFUNDCLOSE]"),
		"stuck, as it was":   saying(t, "[SUCCESS]", "[CHANGE]"),
	} {
		n, err := wechat.told(t, asking(), body)
		if err != nil || !slices.Equal(n.Fields, truth.Fields) || n.EventID() != truth.EventID() {
			t.Errorf("%s: got %v, %v, want %v", name, n, err, truth.Fields)
		}
	}
	for name, want := range map[string]string{"settlement_total_fee": "1000", "settlement_refund_fee": "900", "refund_fee": "1100"} {
		if got := truth.Fields.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// A refund that WeChat does not confirm, or not as it is told, is not believed.
func TestRefundNotConfirmed(t *testing.T) {
	genuine := string(testdata(t, "v25.xml"))
	answers := map[string]string{
		"unsigned":               document(booked(nil)),
		"signed by another":      signed(booked(nil), wepay.MD5, otherKey),
		"of another merchant":    signed(booked(map[string]string{"mch_id": "1900000110"}), wepay.MD5, key),
		"of a sub-merchant":      signed(booked(map[string]string{"sub_mch_id": "1900000110"}), wepay.MD5, key),
		"of another refund":      signed(booked(map[string]string{"refund_id_0": "50000000000202001010000000002"}), wepay.MD5, key),
		"of none":                signed(reply(map[string]string{"refund_count": "0"}), wepay.MD5, key),
		"there is none":          signed(reply(map[string]string{"result_code": "FAIL", "err_code": "REFUNDNOTEXIST"}), wepay.MD5, key),
		"under way":              signed(booked(map[string]string{"refund_status_0": "PROCESSING"}), wepay.MD5, key),
		"stuck, not done":        signed(booked(map[string]string{"refund_status_0": "CHANGE"}), wepay.MD5, key),
		"without a state":        signed(booked(map[string]string{"refund_status_0": ""}), wepay.MD5, key),
		"without its number":     signed(booked(map[string]string{"out_refund_no_0": ""}), wepay.MD5, key),
		"without the order":      signed(booked(map[string]string{"out_trade_no": ""}), wepay.MD5, key),
		"without the payment":    signed(booked(map[string]string{"transaction_id": ""}), wepay.MD5, key),
		"without an amount":      signed(booked(map[string]string{"refund_fee_0": ""}), wepay.MD5, key),
		"of more than was paid":  signed(booked(map[string]string{"refund_fee_0": "1201"}), wepay.MD5, key),
		"WeChat has its trouble": "<xml><return_code>FAIL</return_code><return_msg>系统繁忙,请稍后再试.</return_msg></xml>",
		"nothing":                "",
		"a page":                 "<html><title>502 Bad Gateway</title></html>",
	}
	for name, text := range answers {
		n, err := readAsking([]byte(genuine), key, func(*http.Request) (*http.Response, error) { return httpReply(text), nil })
		if !errors.Is(err, wepay.ErrUnconfirmed) || n != nil {
			t.Errorf("%s: got %v, %v, want ErrUnconfirmed", name, n, err)
		}
	}
	if n, err := read([]byte(genuine), key); !errors.Is(err, wepay.ErrUnconfirmed) || !errors.Is(err, wepay.ErrNoAnswer) || n != nil {
		t.Errorf("no answer: got %v, %v, want ErrUnconfirmed", n, err)
	}
	// One that tells of what is booked is believed in every state that it can end in.
	for _, status := range []string{"SUCCESS", "CHANGE", "REFUNDCLOSE"} {
		wechat := newBooks(booked(map[string]string{"refund_status_0": status}))
		if n, err := wechat.told(t, asking(), saying(t, "[SUCCESS]", "["+status+"]")); err != nil || n.Fields.Get("refund_status") != status {
			t.Errorf("%s: got %v, %v", status, n, err)
		}
	}
}

// Blocks of the cipher can be moved about without the key, and be taken from
// other notifications: whatever comes of it, only what is booked is believed.
func TestRefundsSpliced(t *testing.T) {
	var truths []wepay.Fields
	var sealed [][][]byte
	for _, c := range []map[string]string{
		{},
		{"out_trade_no": "5ba27cc3a70db45dd108b540", "transaction_id": "4200000000202001010000000002", "refund_id_0": "50000000000202001010000000002", "out_refund_no_0": "5ba27cc3a112233554444332", "refund_fee_0": "1"},
		{"out_trade_no": "5ba27cc3a70db45dd108b541", "transaction_id": "4200000000202001010000000003", "refund_id_0": "50000000000202001010000000003", "out_refund_no_0": "R-3", "total_fee": "999900", "refund_fee_0": "999900"},
	} {
		truth := booked(c)
		truths = append(truths, truth)
		raw, err := base64.StdEncoding.DecodeString(seal(innerOf(truth), key))
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, slices.Collect(slices.Chunk(raw, aes.BlockSize)))
	}
	wechat := newBooks(truths...)
	want := make(map[string]wepay.Fields)
	for _, blocks := range sealed {
		n, err := wechat.told(t, asking(), notified(base64.StdEncoding.EncodeToString(slices.Concat(blocks...)), ""))
		if err != nil {
			t.Fatal(err)
		}
		want[n.Fields.Get("refund_id")] = n.Fields
	}
	shop, tried, believed := wechat.client(asking()), 0, 0
	for _, head := range sealed {
		for _, tail := range sealed {
			for i := range head {
				for j := range tail {
					tried++
					spliced := base64.StdEncoding.EncodeToString(append(slices.Concat(head[:i]...), slices.Concat(tail[j:]...)...))
					n, err := shop.Verify(t.Context(), apiv2.NewUnverified(wepay.NewFields(map[string]string{
						"return_code": "SUCCESS", "appid": "wx00112233445566aa", "mch_id": "1900000109", "req_info": spliced,
					})))
					if err != nil {
						continue
					}
					believed++
					if !slices.Equal(n.Fields, want[n.Fields.Get("refund_id")]) {
						t.Fatalf("a splice is believed as %v", n.Fields)
					}
				}
			}
		}
	}
	if len(want) != 3 || believed < 100 {
		t.Errorf("of %d splices only %d opened", tried, believed)
	}
}

// innerOf is what a notification says of what is booked.
func innerOf(truth wepay.Fields) string {
	var text strings.Builder
	text.WriteString("<root>")
	for _, name := range []string{
		"out_refund_no", "out_trade_no", "refund_account", "refund_fee", "refund_id", "refund_recv_accout", "refund_status",
		"settlement_refund_fee", "settlement_total_fee", "success_time", "total_fee", "transaction_id",
	} {
		value := truth.Get(name) + truth.Get(name+"_0")
		switch name {
		case "settlement_refund_fee":
			value = truth.Get("refund_fee_0")
		case "settlement_total_fee":
			value = truth.Get("total_fee")
		case "success_time":
			value = truth.Get("refund_success_time_0")
		}
		text.WriteString("\n<" + name + "><![CDATA[" + value + "]]></" + name + ">")
	}
	return text.String() + "\n</root>"
}

// Who a partner's refund is of is asked with the question, and has to be in the
// answer: the notification's word for it is nobody's.
func TestRefundOfASubMerchant(t *testing.T) {
	partner := asking()
	partner.Type, partner.SubMchID, partner.SubAppID, partner.SubMchIDs = wepay.Partner, "1900000110", "wx00112233445566dd", []string{wepay.AnySubMerchant}
	wechat := newBooks(booked(map[string]string{"sub_mch_id": "1900000110", "sub_appid": "wx00112233445566dd"}))
	of := func(sub string) string {
		return notified(seal(refundText(t), key), "<sub_appid>wxother</sub_appid><sub_mch_id>"+sub+"</sub_mch_id>")
	}
	n, err := wechat.told(t, partner, of("1900000110"))
	if err != nil || n.Fields.Get("sub_mch_id") != "1900000110" || n.Fields.Get("sub_appid") != "wx00112233445566dd" {
		t.Fatalf("got %v, %v", n, err)
	}
	for _, sub := range []string{"1900000111", "1 9", "*"} {
		if n, err := wechat.told(t, partner, of(sub)); !errors.Is(err, wepay.ErrUnconfirmed) || n != nil {
			t.Errorf("of %q: got %v, %v, want ErrUnconfirmed", sub, n, err)
		}
	}
	wechat.refunds["50000000000202001010000000001"] = booked(nil)
	if n, err := wechat.told(t, partner, of("1900000110")); !errors.Is(err, wepay.ErrForeign) || n != nil {
		t.Errorf("an answer of no sub-merchant: got %v, %v, want ErrForeign", n, err)
	}
}

// One outcome of a refund is one event, however it is told.
func TestRefundEventID(t *testing.T) {
	id := func(changes map[string]string, told ...string) string {
		n, err := newBooks(booked(changes)).told(t, asking(), saying(t, told...))
		if err != nil {
			t.Fatal(err)
		}
		return n.EventID()
	}
	first := id(nil)
	if again := id(map[string]string{"refund_recv_accout_0": "退回支付用户零钱"}, "[1100]", "[1]"); again != first {
		t.Errorf("the same refund is %s and %s", first, again)
	}
	const another = "50000000000202001010000000002"
	for name, other := range map[string]string{
		"another refund":  id(map[string]string{"refund_id_0": another}, "50000000000202001010000000001", another),
		"another outcome": id(map[string]string{"refund_status_0": "CHANGE"}, "[SUCCESS]", "[CHANGE]"),
	} {
		if other == first {
			t.Errorf("%s has the same ID", name)
		}
	}
	if n, err := read(testdata(t, "v20.xml"), key); err != nil || n.EventID() == first {
		t.Errorf("a payment of the same order has the ID of its refund, or %v", err)
	}
}
