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
