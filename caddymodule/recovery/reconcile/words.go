package reconcile

import "github.com/windsome/caddy-wepay/caddymodule/store"

// Language is what a report is written in.
type Language string

// The languages.
const (
	Chinese Language = "zh"
	English Language = "en"
)

// words are what a report says, in each language: headings, states, and what to do.
var words = map[string]map[Language]string{
	"title":     {Chinese: "微信支付对账报告", English: "WeChat Pay reconciliation"},
	"account":   {Chinese: "商户号", English: "Account (mch_id)"},
	"merchants": {Chinese: "配置中的商户", English: "Merchants in the config"},
	"date":      {Chinese: "账单日期（北京时间）", English: "Day of the bill (Beijing)"},
	"made":      {Chinese: "生成时间", English: "Made"},

	"no_bill": {Chinese: "微信支付没有这一天的账单：当天没有交易。", English: "WeChat Pay has no bill of this day: nothing was traded."},
	"offline": {Chinese: "账单来自文件：没有向微信查询，也没有补发任何通知。", English: "The bill came from a file: WeChat was not asked, and nothing was handed over."},

	"sums":             {Chinese: "账单合计", English: "What the bill adds up to"},
	"count":            {Chinese: "笔数", English: "Number"},
	"yuan":             {Chinese: "金额（元）", English: "Amount (yuan)"},
	"settled":          {Chinese: "应结金额（元）", English: "To be settled (yuan)"},
	"paid":             {Chinese: "支付", English: "Paid"},
	"refunded":         {Chinese: "退款", English: "Refunded"},
	"revoked":          {Chinese: "撤销", English: "Reversed"},
	"fees":             {Chinese: "手续费", English: "WeChat's fees"},
	"others":           {Chinese: "其中：同一商户号下其他系统的支付", English: "Of these: payments of others on the account"},
	"others_refunded":  {Chinese: "其中：同一商户号下其他系统的退款", English: "Of these: refunds of others on the account"},
	"matched":          {Chinese: "已核对的支付和退款", English: "Payments and refunds that were compared"},
	"unknown":          {Chinese: "交易状态未知，没有核对", English: "In a state that is not known, not compared"},
	"unchecked":        {Chinese: "当天已通知、但这份账单不一定包含的交易（例如另一天申请的退款）", English: "Told of on this day, though this bill need not have them (such as a refund applied for on another day)"},
	"findings":         {Chinese: "差异", English: "Findings"},
	"no_findings":      {Chinese: "没有差异。", English: "There are none."},
	"unlisted":         {Chinese: "列表只包含前面的一部分：", English: "Only the first are listed: "},
	"merchant":         {Chinese: "商户", English: "Merchant"},
	"sub_mch_id":       {Chinese: "特约商户号", English: "Sub-merchant"},
	"time":             {Chinese: "时间", English: "Time"},
	"out_trade_no":     {Chinese: "商户订单号", English: "out_trade_no"},
	"transaction_id":   {Chinese: "微信订单号", English: "transaction_id"},
	"out_refund_no":    {Chinese: "商户退款单号", English: "out_refund_no"},
	"refund_id":        {Chinese: "微信退款单号", English: "refund_id"},
	"bill_yuan":        {Chinese: "账单金额（元）", English: "Bill (yuan)"},
	"order_yuan":       {Chinese: "订单金额（元）", English: "Order (yuan)"},
	"event_yuan":       {Chinese: "通知金额（元）", English: "Event (yuan)"},
	"order_state":      {Chinese: "订单状态", English: "Order"},
	"event_id":         {Chinese: "通知编号（webhook-id）", English: "Event (webhook-id)"},
	"event_state":      {Chinese: "通知状态", English: "Event's state"},
	"outcome":          {Chinese: "处理结果", English: "What was done"},
	"todo":             {Chinese: "该怎么做", English: "What to do"},
	"finding":          {Chinese: "差异", English: "Finding"},
	"no_personal_data": {Chinese: "本报告不含任何个人信息。金额以微信支付账单为准。", English: "Nothing in this report is personal."},

	string(PaidNotHandedOver):   {Chinese: "已支付，订单服务没有收到通知", English: "Paid, and the order service was not told"},
	string(HandedOverNotInBill): {Chinese: "订单服务收到了支付通知，账单里没有", English: "Told as paid, and not in the bill"},
	string(AmountDiffers):       {Chinese: "支付金额不一致", English: "Amounts paid that differ"},
	string(RefundNotHandedOver): {Chinese: "已退款，订单服务没有收到通知", English: "Refunded, and the order service was not told"},
	string(RefundNotInBill):     {Chinese: "订单服务收到了退款通知，账单里没有", English: "Told as refunded, and not in the bill"},
	string(RefundAmountDiffers): {Chinese: "退款金额不一致", English: "Amounts refunded that differ"},

	"event." + string(store.Waiting):     {Chinese: "等待送达", English: "waiting"},
	"event." + string(store.Delivered):   {Chinese: "已送达", English: "delivered"},
	"event." + string(store.Dead):        {Chinese: "已放弃", English: "dead"},
	"event." + string(store.Dropped):     {Chinese: "已丢弃", English: "dropped"},
	"event." + string(store.Quarantined): {Chinese: "已隔离", English: "quarantined"},

	"order." + string(store.OrderPlaced):         {Chinese: "已下单", English: "placed"},
	"order." + string(store.OrderUnknown):        {Chinese: "结果未知", English: "unknown"},
	"order." + string(store.OrderPaid):           {Chinese: "已支付", English: "paid"},
	"order." + string(store.OrderClosed):         {Chinese: "已关闭", English: "closed"},
	"order." + string(store.OrderFailed):         {Chinese: "失败", English: "failed"},
	"order." + string(store.OrderRefunding):      {Chinese: "退款中", English: "refunding"},
	"order." + string(store.OrderPartlyRefunded): {Chinese: "部分退款", English: "partly refunded"},
	"order." + string(store.OrderRefunded):       {Chinese: "已退款", English: "refunded"},
	"order." + string(store.OrderAbnormal):       {Chinese: "退款异常", English: "abnormal"},
	"order." + string(store.OrderQuarantined):    {Chinese: "已隔离", English: "quarantined"},

	"outcome." + string(HandedOver):  {Chinese: "已补发", English: "handed over"},
	"outcome." + string(Recorded):    {Chinese: "已记录", English: "recorded"},
	"outcome." + string(Quarantined): {Chinese: "与订单矛盾，已隔离", English: "quarantined"},
	"outcome." + string(Unconfirmed): {Chinese: "微信查询结果与账单不符", English: "not confirmed by WeChat"},
	"outcome." + string(NoAnswer):    {Chinese: "微信没有答复", English: "no answer from WeChat"},
	"outcome." + string(NotAsked):    {Chinese: "未处理（离线）", English: "not asked (offline)"},

	"todo.handed_over": {
		Chinese: "已补发给订单服务（wepay-source: bill），送达后无需处理。如果经常发生，请检查微信能否访问 notify_url。",
		English: "Nothing, once the event is delivered: it is handed over now (wepay-source: bill). If this happens often, check that WeChat reaches notify_url.",
	},
	"todo.recorded": {
		Chinese: "没有订单服务接收这类通知：请用 order_state 查询并自行入账。",
		English: "This is not handed over to an order service: read it with order_state, and book it.",
	},
	"todo.quarantined": {
		Chinese: "通知与订单矛盾，没有送达。用 caddy wepay events show 查看原因，核对后可用 caddy wepay events replay 送达；不该收的钱请退款。",
		English: "The event contradicts its order, and is not handed over. See why with caddy wepay events show; hand it over with caddy wepay events replay once it is understood, or refund it.",
	},
	"todo.unconfirmed": {
		Chinese: "微信的查询结果与账单不符：请在商户平台核对这笔交易，仍不清楚时联系微信支付。",
		English: "What WeChat answers is not what the bill says: look at the trade in the merchant platform, and ask WeChat Pay if that does not settle it.",
	},
	"todo.no_answer": {
		Chinese: "微信没有答复，稍后会再次查询。之后可再运行一次 caddy wepay reconcile。",
		English: "WeChat gave no answer, and is asked again. Run caddy wepay reconcile once more later.",
	},
	"todo.not_asked": {
		Chinese: "离线对账不补发通知：请在运行中的服务器上执行 caddy wepay reconcile。",
		English: "Nothing is handed over offline: run caddy wepay reconcile with the server running.",
	},
	"todo.waiting": {
		Chinese: "订单服务还没有收下：会继续自动送达。用 caddy wepay events show 查看原因。",
		English: "The order service has not taken it yet; it is tried on. See why with caddy wepay events show.",
	},
	"todo.dead": {
		Chinese: "多次送达失败，已放弃：修好订单服务后执行 caddy wepay events replay。",
		English: "It was given up: mend the order service, then caddy wepay events replay.",
	},
	"todo.dropped": {
		Chinese: "运维人员已将其丢弃。如果不应丢弃，执行 caddy wepay events replay；否则请核对是否需要退款。",
		English: "An operator dropped it. If that was wrong, caddy wepay events replay; else see whether it has to be refunded.",
	},
	"todo." + string(HandedOverNotInBill): {
		Chinese: "暂不发货。在商户平台按微信订单号查询：有这笔交易时，可能属于前后一天的账单；没有时，请立即联系微信支付，并检查密钥是否泄露。",
		English: "Do not ship yet. Look for the transaction_id in the merchant platform: if it is there, it may be in the bill of the day before or after; if not, ask WeChat Pay at once, and consider whether a key has leaked.",
	},
	"todo." + string(AmountDiffers): {
		Chinese: "以账单为准。核对订单：少付的补收或退款，多付的退还差额。",
		English: "The bill is right. Look at the order before anything is shipped: collect what is missing or refund it, and give back what is too much.",
	},
	"todo." + string(RefundNotInBill): {
		Chinese: "在商户平台按商户退款单号查询退款状态；没有这笔退款时，请先用 refund_query 确认，再决定是否重新退款。",
		English: "Look for the out_refund_no in the merchant platform. If it is not there, ask with refund_query before anything is refunded again.",
	},
	"todo." + string(RefundAmountDiffers): {
		Chinese: "以账单为准，更正账目；多退的款项需与顾客协商。",
		English: "The bill is right: correct the books. What was refunded too much is to be settled with the customer.",
	},
}

// say returns a text in a language.
func (l Language) say(key string) string { return words[key][l] }

// todo is the key of what to do about a finding.
func (f *Finding) todo() string {
	if f.Kind != PaidNotHandedOver && f.Kind != RefundNotHandedOver {
		return "todo." + string(f.Kind)
	}
	if f.Outcome != "" {
		return "todo." + string(f.Outcome)
	}
	return "todo." + string(f.EventState)
}
