package wepaytest

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"net/url"
	"time"
)

const (
	billFilePath = "/v3/billdownload/file"
	// downloadLife is how long a download_url is good for.
	downloadLife = 5 * time.Minute
	// v3BillReady is when, after midnight, API v3 has the bill of the day before.
	v3BillReady = 10 * time.Hour
	v3DayFormat = "2006-01-02"
)

// download is a bill that was made and can be fetched.
type download struct {
	account *account
	bill    *bill
	until   time.Time
}

var v3BillCalls = []v3call{
	{
		method: http.MethodGet, path: "/v3/bill/tradebill",
		query: members{
			dayMember, zippedMember, subMember,
			{name: "bill_type", as: "bill_type", is: word("ALL", "SUCCESS", "REFUND", "RECHARGE_REFUND")},
		},
		as: anyone, do: (*v3exchange).tradeBill,
	},
	{
		method: http.MethodGet, path: "/v3/bill/fundflowbill",
		query: members{dayMember, zippedMember, {name: "account_type", is: word("BASIC", "OPERATION", "FEES")}},
		as:    anyone, do: (*v3exchange).flowBill,
	},
	{
		method: http.MethodGet, path: "/v3/profitsharing/bills",
		query: members{dayMember, zippedMember, subMember},
		as:    anyone, do: (*v3exchange).sharingBill,
	},
	{
		method: http.MethodGet, path: billFilePath, anySerial: true,
		query: members{{name: "token", required: true, max: 128}},
		as:    anyone, do: (*v3exchange).downloadFile,
	},
}

var (
	dayMember    = member{name: "bill_date", required: true, is: v3Day}
	zippedMember = member{name: "tar_type", as: "tar_type", is: word("GZIP")}
)

func v3Day(value string) bool {
	_, err := time.Parse(v3DayFormat, value)
	return err == nil
}

// readyBill puts the day in API v2's form, and refuses one whose bill is in the
// making.
func (x *v3exchange) readyBill() *v3refusal {
	day, _ := time.ParseInLocation(v3DayFormat, x.query.text("bill_date"), beijing) // v3Day has seen to it
	x.in.Set("bill_date", day.Format(dayFormat))
	if end := day.AddDate(0, 0, 1); !x.now.Before(end) && x.now.Before(end.Add(v3BillReady)) {
		return inV3(refuse(billCreating, "账单生成中，请稍后再试"))
	}
	if len(x.account.AppIDs) > 0 {
		x.in.Set("appid", x.account.AppIDs[0]) // of the lines that FillBill makes
	}
	return nil
}

func (x *v3exchange) tradeBill() (object, *v3refusal) {
	if refused := x.readyBill(); refused != nil {
		return nil, refused
	}
	_, refused := x.downloadBill()
	return x.offer(refused)
}

func (x *v3exchange) flowBill() (object, *v3refusal) {
	if refused := x.readyBill(); refused != nil {
		return nil, refused
	}
	kind := map[string]string{"BASIC": "Basic", "OPERATION": "Operation", "FEES": "Fees"}
	x.in.Set("account_type", kind[cmp.Or(x.query.text("account_type"), "BASIC")])
	_, refused := x.downloadFlow()
	return x.offer(refused)
}

// offer returns where a bill can be downloaded, with the digest of its uncompressed
// content.
func (x *v3exchange) offer(refused *refusal) (object, *v3refusal) {
	if refused != nil {
		return nil, inV3(refused)
	}
	b := x.bill
	x.bill = nil
	b.mark, b.digest = true, false
	sum := sha1.New()
	_ = b.plain(sum) // a hash takes everything
	token := rand.Text()
	x.server.downloads[token] = download{x.account, b, x.now.Add(downloadLife)}
	return object{
		"hash_type": "SHA1", "hash_value": hex.EncodeToString(sum.Sum(nil)),
		"download_url": x.server.URL + billFilePath + "?token=" + url.QueryEscape(token),
	}, nil
}

func (x *v3exchange) downloadFile() (object, *v3refusal) {
	d, found := x.server.downloads[x.query.text("token")]
	switch {
	case !found || d.account != x.account:
		return nil, invalidRequest("下载链接无效")
	case x.now.After(d.until):
		delete(x.server.downloads, x.query.text("token"))
		return nil, invalidRequest("下载链接已过期，请重新申请账单")
	}
	x.bill = d.bill
	return nil, nil
}

// sharingBill is the bill of a day's shares.
func (x *v3exchange) sharingBill() (object, *v3refusal) {
	if refused := x.readyBill(); refused != nil {
		return nil, refused
	}
	begin, end, refused := x.billDay()
	if refused != nil {
		return nil, inV3(refused)
	}
	var lines [][]string
	for _, sh := range x.books.shares {
		if sh.at.Before(begin) || !sh.at.Before(end) || !x.wants(trade{order: sh.of}, "ALL") {
			continue
		}
		for _, p := range sh.parts {
			lines = append(lines, []string{
				clockText(sh.at), x.account.MchID, orZero(sh.of.request.Get("sub_mch_id")), sh.of.transactionID(), sh.id, p.detail,
				sh.number, yuan(sh.of.total()), p.Account, yuan(p.Amount), "分账", p.result, merchants.Replace(p.Description),
			})
		}
	}
	if len(lines) == 0 {
		return x.offer(refuse(noBill, "账单不存在"))
	}
	x.bill = &bill{gzip: x.in.Get("tar_type") == "GZIP", text: func(w *bufio.Writer) {
		writeTitles(w, []string{
			"分账时间", "分账发起方", "分账方", "微信订单号", "微信分账单号", "分账明细单号",
			"商户分账单号", "订单金额", "分账接收方", "分账金额", "业务类型", "处理状态", "分账描述",
		})
		for _, line := range lines {
			_ = writeValues(w, line)
		}
	}}
	return x.offer(nil)
}
