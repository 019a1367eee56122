import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rawRows, shape, untag } from '../src/response.js';

const request = { alias: 'result', raw: false, body: { action: 'findMany', query: { arguments: {}, selection: {} } } };

test('tagged scalars become what GraphQL had', () => {
  const row = {
    when: { $type: 'DateTime', value: '2026-01-01T00:00:00.000Z' },
    price: { $type: 'Decimal', value: '1.50' },
    metadata: { $type: 'Json', value: '{"$type":"BigInt","value":"1"}' },
    small: { $type: 'BigInt', value: '12' },
    large: { $type: 'BigInt', value: '9007199254740993' },
    nested: [{ n: { $type: 'BigInt', value: '-3' } }, null],
  };
  assert.deepEqual(untag(row), {
    when: '2026-01-01T00:00:00.000Z',
    price: '1.50',
    metadata: '{"$type":"BigInt","value":"1"}',
    small: 12,
    large: '9007199254740993',
    nested: [{ n: -3 }, null],
  });
});

test('the result comes under the alias the client chose', () => {
  assert.deepEqual(shape(request, { data: { findManyKey: [] } }), { data: { result: [] } });
});

test('errors pass unchanged', () => {
  const answer = { errors: [{ error: 'no' }] };
  assert.equal(shape(request, answer), answer);
});

test('raw rows have one object a row with a type in each cell', () => {
  const result = { columns: ['n', 'list', 'none'], types: ['bigint', 'string-array', 'int'], rows: [['7', ['a', null], null]] };
  assert.deepEqual(rawRows(result), [
    {
      n: { prisma__type: 'bigint', prisma__value: '7' },
      list: {
        prisma__type: 'array',
        prisma__value: [
          { prisma__type: 'string', prisma__value: 'a' },
          { prisma__type: 'null', prisma__value: null },
        ],
      },
      none: { prisma__type: 'null', prisma__value: null },
    },
  ]);
});

test('the count of executeRaw passes unchanged', () => assert.equal(rawRows(3), 3));
