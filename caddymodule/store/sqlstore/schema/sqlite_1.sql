-- Times are milliseconds since 1970, UTC; amounts are fen. id is the 16 bytes of
-- a webhook-id "evt_<32 hex digits>"; of any other it is the start of its SHA-256,
-- and id_text has the webhook-id itself.
CREATE TABLE wepay_event (
	seq            INTEGER PRIMARY KEY,
	id             BLOB    NOT NULL UNIQUE,
	id_text        TEXT,
	merchant       TEXT    NOT NULL,
	kind           TEXT    NOT NULL,
	event_type     TEXT,
	out_trade_no   TEXT,
	transaction_id TEXT,
	out_refund_no  TEXT,
	amount         INTEGER NOT NULL,
	currency       TEXT,
	after_id       TEXT,
	source         TEXT,
	occurred       INTEGER,
	received       INTEGER NOT NULL,
	state          TEXT    NOT NULL,
	due            INTEGER,
	attempts       INTEGER NOT NULL,
	since          INTEGER,
	ended          INTEGER,
	refused        INTEGER NOT NULL,
	reason         TEXT,
	answer         TEXT,
	trace          BLOB,
	payload        BLOB
);
CREATE INDEX wepay_event_queue ON wepay_event (state, merchant, kind, due, received);
CREATE INDEX wepay_event_received ON wepay_event (received);
CREATE INDEX wepay_event_payload ON wepay_event (ended) WHERE ended IS NOT NULL AND payload IS NOT NULL;
CREATE INDEX wepay_event_out_trade_no ON wepay_event (out_trade_no) WHERE out_trade_no IS NOT NULL;
CREATE INDEX wepay_event_transaction_id ON wepay_event (transaction_id) WHERE transaction_id IS NOT NULL;
CREATE INDEX wepay_event_out_refund_no ON wepay_event (out_refund_no) WHERE out_refund_no IS NOT NULL;

-- What was asked of WeChat with a number of the merchant's, and what is known of
-- it. sub_mch_id is '' where there is none.
CREATE TABLE wepay_order (
	seq            INTEGER PRIMARY KEY,
	kind           TEXT    NOT NULL,
	number         TEXT    NOT NULL,
	mch_id         TEXT    NOT NULL,
	sub_mch_id     TEXT    NOT NULL,
	merchant       TEXT    NOT NULL,
	appid          TEXT,
	operation      TEXT,
	api            TEXT,
	out_trade_no   TEXT,
	transaction_id TEXT,
	amount         INTEGER NOT NULL,
	also           INTEGER,
	currency       TEXT,
	refunded       INTEGER NOT NULL,
	state          TEXT    NOT NULL,
	placed         INTEGER NOT NULL,
	expires        INTEGER,
	close_at       INTEGER,
	due            INTEGER,
	asked          INTEGER NOT NULL,
	last_asked     INTEGER,
	source         TEXT,
	paid           INTEGER,
	ended          INTEGER,
	reason         TEXT,
	event_id       TEXT,
	trace          BLOB,
	UNIQUE (number, kind, mch_id, sub_mch_id)
);
CREATE INDEX wepay_order_due ON wepay_order (merchant, due) WHERE due IS NOT NULL;
CREATE INDEX wepay_order_placed ON wepay_order (placed);
CREATE INDEX wepay_order_state ON wepay_order (state, kind, merchant, placed);
CREATE INDEX wepay_order_ended ON wepay_order (ended) WHERE ended IS NOT NULL;
CREATE INDEX wepay_order_out_trade_no ON wepay_order (out_trade_no) WHERE out_trade_no IS NOT NULL;
CREATE INDEX wepay_order_transaction_id ON wepay_order (transaction_id) WHERE transaction_id IS NOT NULL;
