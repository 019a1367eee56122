import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cannotConnect, engineFailure, fromDriver, invalidQuery, nameDriverErrors, transactionStatus } from '../src/errors.js';

const place = { host: 'db', port: 5432, user: 'gatehouse', database: 'gatehouse' };
/** @param {string} code @param {string} message */
const driverError = (code, message) => Object.assign(new Error(message), { code });

// LiteLLM answers 503 and reconnects on these words; without them a lost database reads as a bad key (401).
for (const [error, code, words] of /** @type {[Error, string, string][]} */ ([
  [driverError('ECONNREFUSED', ''), 'P1001', "Can't reach database server"],
  [new Error('Connection terminated due to connection timeout'), 'P1001', "Can't reach database server"],
  [new Error('timeout exceeded when trying to connect'), 'P2024', 'Timed out'],
  [new Error('Connection terminated unexpectedly'), 'P1017', 'connection closed'],
])) {
  test(`${error.message || 'ECONNREFUSED'} is ${code}`, () => {
    const named = fromDriver(error, place);
    assert.equal(named.code, code);
    assert.ok(named.message.includes(words), named.message);
  });
}

test('only errors that stand for one of the driver are renamed', () => {
  const errors = [
    { error: 'x', user_facing_error: { message: 'x', error_code: 'P2036', meta: { id: 7 } } },
    { error: 'y', user_facing_error: { message: 'y', error_code: 'P2002', meta: { target: ['id'] } } },
  ];
  nameDriverErrors(errors, (id) => driverError('ECONNREFUSED', `lost ${id}`), place);
  assert.deepEqual(errors.map((error) => error.user_facing_error.error_code), ['P1001', 'P2002']);
  assert.match(errors[0]?.error ?? '', /lost 7/);
});

test("the client's error reader finds an object in meta, always", () => {
  for (const { errors } of [invalidQuery('no'), engineFailure(new Error('no')), engineFailure(new Error('{"message":"no","meta":null}'))]) {
    assert.equal(typeof errors[0]?.user_facing_error?.meta, 'object');
    assert.notEqual(errors[0]?.user_facing_error?.meta, null);
  }
});

test('what keeps the engine from starting is one sentence with the next step', () => {
  for (const [code, words] of [
    ['ECONNREFUSED', 'db:5432 cannot be reached'],
    ['28P01', 'refused user gatehouse'],
    ['3D000', 'no database gatehouse'],
  ]) {
    const { message } = cannotConnect(driverError(String(code), 'reason'), place);
    assert.ok(message.includes(String(words)), message);
    assert.match(message, /DATABASE_URL\.$/);
  }
});

test('transaction errors have the statuses of the native engine', () => {
  /** @param {string} error */
  const status = (error) => transactionStatus({ message: 'x', meta: { error }, error_code: 'P2028' });
  assert.equal(status('Unable to start a transaction in the given time.'), 504);
  assert.equal(status('Transaction not found.'), 404);
  assert.equal(status('Transaction already closed.'), 422);
  assert.equal(status('other'), 500);
  assert.equal(transactionStatus({ message: 'Server has closed the connection', error_code: 'P1017' }), 500);
});
