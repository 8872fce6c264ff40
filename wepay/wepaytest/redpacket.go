package wepaytest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNotOpen says that a red packet cannot be opened.
var ErrNotOpen = errors.New("red packet not to be opened")

// The states of a red packet, in addition to FAILED.
const (
	packetSending  = "SENDING"
	packetSent     = "SENT"
	packetReceived = "RECEIVED"
	packetRefunded = "REFUND"
)

// packetLife is how long a red packet can be opened.
const packetLife = 24 * time.Hour

// Limits of what one payee gets without a scene_id.
const (
	minPacket = 100
	maxPacket = 20_000
)

// packet is what only red packets have.
type packet struct {
	parts    int64 // how many can open it
	opened   []opening
	refunded int64
	back     time.Time
}

type opening struct {
	openid string
	fee    int64
	at     time.Time
}

// FinishRedPacket ends the sending of a red packet that waits: as "SENT", or
// as PayoutFailed, after which its number is dead. Its errors are
// FinishTransfer's.
func (s *Server) FinishRedPacket(mchID, mchBillno, status, reason string) error {
	return s.finishPayout(mchID, payoutKey{redPacket, mchBillno}, status, reason)
}

// OpenRedPacket has a payee open a red packet, and returns what was in it: of
// one for a group a random part. Each payee opens it once. The error wraps
// wepay.ErrNoMerchant, ErrNoPayout or ErrNotOpen.
func (s *Server) OpenRedPacket(mchID, mchBillno, openid string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return 0, fmt.Errorf("opening red packet %q of %q: %w", mchBillno, mchID, wepay.ErrNoMerchant)
	}
	p, found := a.real.payouts[payoutKey{redPacket, mchBillno}]
	switch {
	case !found:
		return 0, fmt.Errorf("opening red packet %q of %q: %w", mchBillno, mchID, ErrNoPayout)
	case p.status != packetSent:
		return 0, fmt.Errorf("%w: its status is %s", ErrNotOpen, p.status)
	case p.packet.parts == 1 && openid != p.request.Get("re_openid"):
		return 0, fmt.Errorf("%w: it is another's", ErrNotOpen)
	case slices.ContainsFunc(p.packet.opened, func(o opening) bool { return o.openid == openid }):
		return 0, fmt.Errorf("%w: it was opened by the same payee", ErrNotOpen)
	}
	fee := p.nextPart()
	p.packet.opened = append(p.packet.opened, opening{openid, fee, s.clock.Now()})
	if int64(len(p.packet.opened)) == p.packet.parts {
		p.status = packetReceived
	}
	return fee, nil
}

// nextPart returns the next part, and leaves at least one fen for each later one.
func (p *payout) nextPart() int64 {
	rest, others := p.left(), p.packet.parts-int64(len(p.packet.opened))-1
	if others == 0 {
		return rest
	}
	return 1 + rand.Int64N(rest-others)
}

// left is the amount that is not taken yet.
func (p *payout) left() int64 {
	rest := p.fee
	for _, o := range p.packet.opened {
		rest -= o.fee
	}
	return rest
}

// expirePacket returns, after a day, what was not taken.
func (s *Server) expirePacket(b *books, p *payout) {
	s.tasks.after(s.clock, packetLife, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.status != packetSent {
			return
		}
		p.status, p.packet.refunded, p.packet.back = packetRefunded, p.left(), s.clock.Now()
		b.move(s, movement{number: p.id, kind: string(p.kind) + "退回", fee: p.packet.refunded, voucher: p.number})
	})
}

func packetParams(also ...param) params {
	return append(params{
		{name: "mch_billno", required: true, max: 28, is: nonce},
		{name: "send_name", required: true, max: 32},
		{name: "re_openid", required: true, max: 32},
		{name: "total_amount", required: true, is: fen},
		{name: "wishing", required: true, max: 128},
		{name: "act_name", required: true, max: 32},
		{name: "remark", required: true, max: 256},
		{name: "scene_id", max: 32, is: word("PRODUCT_1", "PRODUCT_2", "PRODUCT_3", "PRODUCT_4", "PRODUCT_5", "PRODUCT_6", "PRODUCT_7", "PRODUCT_8")},
		{name: "risk_info", max: 128},
		{name: "msgappid", max: 32},
		{name: "consume_mch_id", max: 32},
	}, also...)
}

// groupSize is how many a group's red packet is for.
func groupSize(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n >= 3 && n <= 20 && fen(value)
}

// sendPacket sends a red packet to one payee or to a group.
func (x *exchange) sendPacket() (wepay.Fields, *refusal) {
	fee, parts := amount(x.in.Get("total_amount")), amount(x.in.Get("total_num"))
	each := fee / parts
	switch {
	case !x.ownNumber(x.in.Get("mch_billno")):
		return nil, refuse("PARAM_ERROR", "参数错误:mch_billno参数格式错误")
	case each < 1, x.in.Get("scene_id") == "" && (each < minPacket || each > maxPacket):
		return nil, refuse("MONEY_LIMIT", "红包金额不在限额内")
	}
	p, refused := x.payOut(&payout{
		payoutKey: payoutKey{redPacket, x.in.Get("mch_billno")},
		request:   content(x.in), fee: fee, status: packetSending, packet: &packet{parts: parts},
	})
	if refused != nil {
		return nil, refused
	}
	if p.waits() && !x.account.payoutsWait {
		x.server.endPayout(x.books, p, packetSent, "")
	}
	if p.waits() {
		return nil, refuse("PROCESSING", "请求已受理,请稍后使用原单号查询发放结果")
	}
	return wepay.NewFields(map[string]string{
		"mch_billno":   p.number,
		"re_openid":    p.request.Get("re_openid"),
		"total_amount": text(p.fee),
		"send_listid":  p.id,
	}), nil
}

// ownNumber says whether a mch_billno is the mch_id, a day and ten digits.
func (x *exchange) ownNumber(value string) bool {
	rest, own := strings.CutPrefix(value, x.account.MchID)
	if !own || len(rest) != len(dayFormat)+10 || !digits(rest) {
		return false
	}
	_, err := time.Parse(dayFormat, rest[:len(dayFormat)])
	return err == nil
}

// queryPacket returns the state of a red packet. The list of its receivers is the only
// nested element in API v2.
func (x *exchange) queryPacket() (wepay.Fields, *refusal) {
	p, refused := x.findPayout(redPacket, "mch_billno")
	if refused != nil {
		return nil, refused
	}
	kind := "NORMAL"
	if p.packet.parts > 1 {
		kind = "GROUP"
	}
	out := wepay.NewFields(map[string]string{
		"mch_billno":   p.number,
		"detail_id":    p.id,
		"status":       p.status,
		"send_type":    "API",
		"hb_type":      kind,
		"total_num":    text(p.packet.parts),
		"total_amount": text(p.fee),
		"send_time":    clockText(p.at),
		"wishing":      p.request.Get("wishing"),
		"remark":       p.request.Get("remark"),
		"act_name":     p.request.Get("act_name"),
	})
	switch p.status {
	case PayoutFailed:
		out.Set("reason", p.reason)
	case packetRefunded:
		out.Set("refund_time", clockText(p.packet.back))
		out.Set("refund_amount", text(p.packet.refunded))
	}
	x.nested = p.packet.list()
	return out, nil
}

// list is the element of a red packet's receivers, "" before the first.
func (p *packet) list() string {
	var b strings.Builder
	b.WriteString("\n<hblist>\n")
	for _, o := range p.opened {
		fmt.Fprintf(&b, "<hbinfo>\n<openid><![CDATA[%s]]></openid>\n<amount>%d</amount>\n<rcv_time><![CDATA[%s]]></rcv_time>\n</hbinfo>\n",
			sections.Replace(o.openid), o.fee, clockText(o.at))
	}
	b.WriteString("</hblist>")
	return b.String()
}
