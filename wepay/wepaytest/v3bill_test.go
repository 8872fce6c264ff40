package wepaytest_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const tradeBill = "/v3/bill/tradebill?bill_date=2026-01-01"

// file fetches what a bill's reply offers, and compares it with the digest.
func (s *v3shop) file(offer answer, zipped bool) string {
	s.t.Helper()
	uri, found := strings.CutPrefix(offer.at("download_url"), s.wechat.URL)
	if !found {
		s.t.Fatalf("the download_url is %s", offer.raw)
	}
	a := s.send(s.message("GET", uri, nil))
	if a.status != 200 || a.header.Get("Wechatpay-Signature") != "" {
		s.t.Fatalf("the file: %d, signature %q", a.status, a.header.Get("Wechatpay-Signature"))
	}
	plain := a.raw
	if zipped {
		z, err := gzip.NewReader(bytes.NewReader(a.raw))
		if err != nil {
			s.t.Fatal(err)
		}
		if plain, err = io.ReadAll(z); err != nil {
			s.t.Fatal(err)
		}
	}
	sum := sha1.Sum(plain)
	if offer.at("hash_type") != "SHA1" || offer.at("hash_value") != hex.EncodeToString(sum[:]) {
		s.t.Errorf("the digest is %s", offer.raw)
	}
	text, found := strings.CutPrefix(string(plain), "\xEF\xBB\xBF")
	if !found {
		s.t.Errorf("no mark leads %.20q", plain)
	}
	return text
}

func TestV3Bill(t *testing.T) {
	s := newV3Shop(t, withV2)
	old := newShopAt(t, s.wechat)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: key, APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	old.pay("ORDER-V2", 100)
	s.pay("ORDER-V3", 1200)
	s.granted("POST", v3RefundPath, s.refund("ORDER-V3", "R-1", 1200, 200))
	s.clock.Advance(30 * time.Hour) // 02:00 of the 3rd
	plain := s.file(s.granted("GET", tradeBill, nil), false)
	if zipped := s.file(s.granted("GET", tradeBill+"&tar_type=GZIP", nil), true); zipped != plain {
		t.Errorf("zipped it is %q", zipped)
	}
	for _, want := range []string{"`ORDER-V2", "`ORDER-V3", "`R-1", "\r\n`3,`13.00,`2.00,"} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %s in %s", want, plain)
		}
	}
	_, _, v2 := old.raw(billPath, request(billPath, map[string]string{"bill_date": "20260101", "bill_type": "ALL"}))
	if v2 != plain {
		t.Errorf("API v2 tells %s, API v3 %s", v2, plain)
	}
	flow := s.file(s.granted("GET", "/v3/bill/fundflowbill?bill_date=2026-01-01", nil), false)
	if !strings.Contains(flow, "`12.00") || strings.Count(flow, "\r\n") != 6 {
		t.Errorf("the flow is %s", flow)
	}
	s.denied(400, "NO_STATEMENT_EXIST", s.message("GET", "/v3/bill/fundflowbill?bill_date=2026-01-01&account_type=FEES", nil))
}

func TestV3BillRefuses(t *testing.T) {
	s := newV3Shop(t)
	s.pay("ORDER-0001", 100)
	s.denied(400, "NO_STATEMENT_EXIST", s.message("GET", tradeBill, nil)) // the day is not over
	s.clock.Advance(13*time.Hour + 59*time.Minute)                        // 09:59 of the 2nd
	s.denied(400, "STATEMENT_CREATING", s.message("GET", tradeBill, nil))
	s.clock.Advance(time.Minute)
	offer := s.granted("GET", tradeBill, nil)
	s.denied(400, "NO_STATEMENT_EXIST", s.message("GET", "/v3/bill/tradebill?bill_date=2025-12-31", nil))
	s.denied(400, "PARAM_ERROR", s.message("GET", "/v3/bill/tradebill?bill_date=20260101", nil))
	s.denied(400, "PARAM_ERROR", s.message("GET", "/v3/bill/tradebill", nil))
	s.denied(400, "PARAM_ERROR", s.message("GET", tradeBill+"&bill_type=all", nil))

	other := openV3Shop(t, s.wechat, wepaytest.Merchant{MchID: "1900000110", AppIDs: []string{appID}, APIv3Key: apiV3Key})
	other.clock = s.clock
	uri := strings.TrimPrefix(offer.at("download_url"), s.wechat.URL)
	other.denied(400, "INVALID_REQUEST", other.message("GET", uri, nil))
	s.file(offer, false)
	s.clock.Advance(5*time.Minute + time.Second)
	s.denied(400, "INVALID_REQUEST", s.message("GET", uri, nil))

	s.wechat.Misbehave("/v3/bill/tradebill", wepaytest.Fault{Kind: wepaytest.WrongHash})
	wrong, right := s.granted("GET", tradeBill, nil), s.granted("GET", tradeBill, nil)
	if wrong.at("hash_value") == right.at("hash_value") || len(wrong.at("hash_value")) != 40 {
		t.Errorf("the wrong digest is %s", wrong.raw)
	}
	if err := s.wechat.DelayBills(mchID, true); err != nil {
		t.Fatal(err)
	}
	s.denied(400, "STATEMENT_CREATING", s.message("GET", tradeBill, nil))
}

// A merchant who knows the public key alone need not name it for a file, whose
// reply nobody signs.
func TestV3BillByPublicKey(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	s.pay("ORDER-0001", 100)
	s.clock.Advance(24 * time.Hour)
	offer := s.granted("GET", tradeBill, nil)
	s.serial = ""
	s.file(offer, false)
}
