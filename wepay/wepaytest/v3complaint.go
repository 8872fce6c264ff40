package wepaytest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Complaint is a payer's about an order (消费者投诉).
type Complaint struct {
	OutTradeNo string
	Detail     string
	PayerPhone string // which merchants get encrypted; "": the payer left none
}

type complaint struct {
	Complaint
	id string
	at time.Time
}

const complaintsPath = "/v3/merchant-service/complaints-v2"

// v3ComplaintCalls ask for complaints.
// Source: WeChat Pay, 查询投诉单列表 and 查询投诉单详情 (2025-08-28).
var v3ComplaintCalls = []v3call{
	{
		method: http.MethodGet, path: complaintsPath, as: anyone,
		query: members{
			{name: "limit", is: digits},
			{name: "offset", is: digits},
			{name: "begin_date", required: true, is: dateOnly},
			{name: "end_date", required: true, is: dateOnly},
			{name: "complainted_mchid", max: 64},
		},
		do: (*v3exchange).listComplaints,
	},
	{method: http.MethodGet, path: complaintsPath + "/{complaint_id}", as: anyone, do: (*v3exchange).queryComplaint},
}

func dateOnly(value string) bool {
	_, err := time.Parse(time.DateOnly, value)
	return err == nil
}

// Complain has a payer complain about a merchant, and returns the complaint's id. The
// error wraps wepay.ErrNoMerchant.
func (s *Server) Complain(mchID string, c Complaint) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return "", fmt.Errorf("complaining about %q: %w", mchID, wepay.ErrNoMerchant)
	}
	now := s.clock.Now()
	id = s.nextNumber("2002018", now)
	a.complaints = append(a.complaints, complaint{c, id, now})
	return id, nil
}

func (x *v3exchange) listComplaints() (object, *v3refusal) {
	limit, offset := 10, 0
	if value := x.query.text("limit"); value != "" {
		limit, _ = strconv.Atoi(value) // too large a one is refused below
	}
	if value := x.query.text("offset"); value != "" {
		offset, _ = strconv.Atoi(value)
	}
	if limit < 1 || limit > 50 {
		return nil, wrong("query", "/limit", limit, "参数取值范围错误")
	}
	page, count := []object{}, 0
	for _, c := range x.account.complaints {
		day := c.at.In(beijing).Format(time.DateOnly)
		if day < x.query.text("begin_date") || day > x.query.text("end_date") {
			continue
		}
		if count++; count <= offset || len(page) == limit {
			continue
		}
		one, refused := x.complaint(c)
		if refused != nil {
			return nil, refused
		}
		page = append(page, one)
	}
	return object{"data": page, "limit": limit, "offset": offset, "total_count": count}, nil
}

func (x *v3exchange) queryComplaint() (object, *v3refusal) {
	for _, c := range x.account.complaints {
		if c.id == x.path.text("complaint_id") {
			return x.complaint(c)
		}
	}
	return nil, absent("RESOURCE_NOT_EXISTS", "投诉单不存在")
}

// complaint is one as the merchant that asks gets it.
func (x *v3exchange) complaint(c complaint) (object, *v3refusal) {
	out := object{
		"complaint_id": c.id, "complaint_time": moment(c.at), "complaint_detail": c.Detail, "complaint_state": "PENDING",
		"complaint_full_refunded": false, "user_complaint_times": 1,
		"complaint_order_info": []object{{"out_trade_no": c.OutTradeNo}},
	}
	if c.PayerPhone == "" {
		return out, nil
	}
	phone, refused := x.encryptV3(c.PayerPhone)
	out["payer_phone"] = phone
	return out, refused
}
