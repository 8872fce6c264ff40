// A WeChat Pay made of wechatpay-axios-plugin: it verifies what a merchant asks
// and signs what it answers and tells. It reads its keys from standard input, one
// JSON object, and prints the port that it listens on.
const { readFileSync } = require('node:fs');
const { createServer } = require('node:http');
const { Aes, Formatter, Rsa } = require('wechatpay-axios-plugin');

const keys = JSON.parse(readFileSync(0, 'utf8'));
const merchantKey = Rsa.from(keys.merchantPublicKey, Rsa.KEY_TYPE_PUBLIC);
const ownKey = Rsa.from(keys.platformKey, Rsa.KEY_TYPE_PRIVATE);

const wrong = (status, code, message) => Object.assign(new Error(message), { status, code });

// authorize verifies a request the way the plugin would have signed it.
function authorize(request, body) {
  const [scheme, rest] = (request.headers.authorization || '').split(/ (.*)/s);
  const said = Object.fromEntries((rest || '').split(',').map((pair) => pair.match(/^(\w+)="(.*)"$/)?.slice(1) || []));
  const message = Formatter.request(request.method, request.url, said.timestamp, said.nonce_str, body);
  if (scheme !== 'WECHATPAY2-SHA256-RSA2048' || said.mchid !== keys.mchid || said.serial_no !== keys.merchantSerial) {
    throw wrong(401, 'SIGN_ERROR', 'who is that?');
  }
  if (Math.abs(Formatter.timestamp() - said.timestamp) > 300 || !Rsa.verify(message, said.signature, merchantKey)) {
    throw wrong(401, 'SIGN_ERROR', 'wrong signature');
  }
  if (!request.headers['user-agent'] || !/json/.test(request.headers.accept)) {
    throw wrong(400, 'PARAM_ERROR', 'Accept and User-Agent');
  }
}

const orders = new Map();

// identified reads who alone may pay an order, which only WeChat can.
function identified(request, payer) {
  if (!payer.identity) return payer;
  if (request.headers['wechatpay-serial'] !== keys.platformSerial) throw wrong(400, 'PARAM_ERROR', 'Wechatpay-Serial');
  const { type, number, name } = payer.identity;
  return { ...payer, identity: { type, number: Rsa.decrypt(number, ownKey), name: Rsa.decrypt(name, ownKey) } };
}

function transaction(order) {
  return {
    appid: order.appid, mchid: order.mchid, out_trade_no: order.out_trade_no, attach: order.attach || '',
    transaction_id: '4200002001202311156789012345', trade_type: 'JSAPI', trade_state: 'SUCCESS', trade_state_desc: '支付成功',
    bank_type: 'CMB_DEBIT', success_time: '2023-11-15T06:13:18+08:00', payer: order.payer,
    amount: { ...order.amount, payer_total: order.amount.total, payer_currency: 'CNY' },
  };
}

// answer does what is asked; undefined is 204.
function answer(request, body) {
  const { pathname } = new URL(request.url, 'http://localhost');
  const escaped = pathname.split('/')[5];
  const part = decodeURIComponent(escaped || '');
  const asked = `${request.method} ${escaped ? pathname.replace(escaped, '{}') : pathname}`;
  const json = body ? JSON.parse(body) : {};
  const order = () => orders.get(part) || (() => { throw wrong(404, 'ORDER_NOT_EXIST', '订单不存在'); })();
  switch (asked) {
    case 'POST /v3/pay/transactions/jsapi':
      orders.set(json.out_trade_no, { ...json, payer: identified(request, json.payer) });
      return { prepay_id: 'wx201410272009395522657a690389285100' };
    case 'GET /v3/pay/transactions/out-trade-no/{}':
      return transaction(order());
    case 'POST /v3/pay/transactions/out-trade-no/{}/close':
      order();
      return undefined;
    case 'POST /v3/profitsharing/receivers/add':
      if (request.headers['wechatpay-serial'] !== keys.platformSerial) throw wrong(400, 'PARAM_ERROR', 'Wechatpay-Serial');
      return { ...json, name: Rsa.decrypt(json.name, ownKey) };
    default:
      throw wrong(404, 'NOT_FOUND', asked);
  }
}

function signed(body) {
  const timestamp = `${Formatter.timestamp()}`;
  const nonce = Formatter.nonce();
  return {
    'Content-Type': 'application/json; charset=utf-8',
    'Wechatpay-Timestamp': timestamp,
    'Wechatpay-Nonce': nonce,
    'Wechatpay-Serial': keys.platformSerial,
    'Wechatpay-Signature': Rsa.sign(Formatter.response(timestamp, nonce, body), ownKey),
    'Wechatpay-Signature-Type': 'WECHATPAY2-SHA256-RSA2048',
  };
}

// notification tells of an order's payment; the reply holds its header and body.
function notification(number) {
  const nonce = Formatter.nonce(12);
  const ciphertext = Aes.AesGcm.encrypt(JSON.stringify(transaction(orders.get(number))), keys.apiV3Key, nonce, 'transaction');
  const body = JSON.stringify({
    id: 'EV-2018022511223320873', create_time: '2023-11-15T06:13:20+08:00', resource_type: 'encrypt-resource',
    event_type: 'TRANSACTION.SUCCESS', summary: '支付成功',
    resource: { original_type: 'transaction', algorithm: 'AEAD_AES_256_GCM', ciphertext, associated_data: 'transaction', nonce },
  });
  return { header: signed(body), body };
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
    const body = Buffer.concat(chunks).toString();
    if (request.url.startsWith('/notification/')) {
      response.end(JSON.stringify(notification(decodeURIComponent(request.url.split('/')[2]))));
      return;
    }
    try {
      authorize(request, body);
      const result = answer(request, body);
      const text = result === undefined ? '' : JSON.stringify(result);
      response.writeHead(text ? 200 : 204, signed(text)).end(text);
    } catch (error) {
      const text = JSON.stringify({ code: error.code || 'SYSTEM_ERROR', message: error.message });
      response.writeHead(error.status || 500, error.status === 401 ? {} : signed(text)).end(text);
    }
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
