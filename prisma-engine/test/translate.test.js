import assert from 'node:assert/strict';
import { test } from 'node:test';
import { translate } from '../src/request.js';
import { readModels } from '../src/schema.js';

const models = readModels(`
datasource db {
  provider = "postgresql"
}
model Key {
  token String @id
  metadata Json @default("{}")
  budget Budget? @relation(fields: [budget_id], references: [id])
  budget_id String?
  events Event[]
}
model Budget {
  id String @id
  limits Json?
  keys Key[]
}
// A field may have the name of a part of Prisma's own input.
model Event {
  id String @id
  data Json?
  key Key @relation(fields: [key_token], references: [token])
  key_token String
  @@unique([id, key_token])
}
`);

/** @param {string} document */
const body = (document) => translate(document, models).body;
/** @param {string} value */
const json = (value) => ({ $type: 'Json', value });

test('the datamodel gives Json fields and relations, and nothing else', () => {
  assert.deepEqual([...models.keys()], ['Key', 'Budget', 'Event']);
  assert.deepEqual([...(models.get('Key') ?? [])], [['metadata', 'Json'], ['budget', 'Budget'], ['events', 'Event']]);
});

test('a root field becomes model and action, and its alias names the result', () => {
  const { alias, raw, body } = translate('query { result: findUniqueKey(where: {token: "t"}) { token } }', models);
  assert.equal(alias, 'result');
  assert.equal(raw, false);
  assert.deepEqual(body, {
    modelName: 'Key',
    action: 'findUnique',
    query: { arguments: { where: { token: 't' } }, selection: { token: true } },
  });
});

for (const [field, action] of [
  ['findUniqueKeyOrThrow', 'findUniqueOrThrow'],
  ['findFirstKeyOrThrow', 'findFirstOrThrow'],
  ['findManyKey', 'findMany'],
  ['createOneKey', 'createOne'],
  ['createManyKey', 'createMany'],
  ['upsertOneKey', 'upsertOne'],
  ['deleteManyKey', 'deleteMany'],
  ['aggregateKey', 'aggregate'],
  ['groupByKey', 'groupBy'],
]) {
  test(`${field} is ${action}`, () => assert.equal(body(`query { ${field} { token } }`).action, action));
}

test('raw queries pass through and ask for raw shaping', () => {
  const { raw, body } = translate('mutation { result: queryRaw(query: "SELECT $1", parameters: "[1]") }', models);
  assert.equal(raw, true);
  assert.deepEqual(body, { action: 'queryRaw', query: { arguments: { query: 'SELECT $1', parameters: '[1]' }, selection: {} } });
});

test('values keep their types, and integers beyond 2^53 their digits', () => {
  const { query } = body('query { findManyKey(where: {a: 1, b: 1.5, c: true, d: null, e: desc, f: ["x", 2], g: 9007199254740993}) { token } }');
  assert.deepEqual(query.arguments['where'], {
    a: 1, b: 1.5, c: true, d: null, e: 'desc', f: ['x', 2], g: { $type: 'BigInt', value: '9007199254740993' },
  });
});

test('text keeps quotes, newlines and characters outside ASCII', () => {
  const text = 'π "x"\\ \n \u2028 {}$type';
  assert.deepEqual(body(`query { findManyKey(where: {token: ${JSON.stringify(text)}}) { token } }`).query.arguments, {
    where: { token: text },
  });
});

test('Json is tagged in data, in filters and in nested writes; other text is not', () => {
  const { query } = body(`mutation { createOneKey(data: {
    token: "t", metadata: "{}", budget: {create: {id: "b", limits: "[1]"}}
  }) { token } }`);
  assert.deepEqual(query.arguments['data'], {
    token: 't',
    metadata: json('{}'),
    budget: { create: { id: 'b', limits: json('[1]') } },
  });
  const filter = body(`query { findManyKey(where: {AND: [
    {metadata: {path: ["a"], equals: "1"}}, {metadata: {string_contains: "x"}}, {budget: {is: {limits: {equals: "{}"}}}}
  ]}) { token } }`);
  assert.deepEqual(filter.query.arguments['where'], {
    AND: [
      { metadata: { path: ['a'], equals: json('1') } },
      { metadata: { string_contains: 'x' } },
      { budget: { is: { limits: { equals: json('{}') } } } },
    ],
  });
});

test('a field named data is told from the data of a nested write', () => {
  const { query } = body(`mutation { updateOneKey(where: {token: "t"}, data: {
    events: {update: [{where: {id_key_token: {id: "e", key_token: "t"}}, data: {data: "{}"}}], create: {id: "f", data: "1"}},
    budget: {upsert: {create: {id: "b", limits: "1"}, update: {limits: "2"}}}
  }) { token } }`);
  assert.deepEqual(query.arguments['data'], {
    events: {
      update: [{ where: { id_key_token: { id: 'e', key_token: 't' } }, data: { data: json('{}') } }],
      create: { id: 'f', data: json('1') },
    },
    budget: { upsert: { create: { id: 'b', limits: json('1') }, update: { limits: json('2') } } },
  });
});

test('included relations keep their own arguments, with Json of their own model', () => {
  const { query } = body('query { findManyKey(orderBy: [{token: asc}]) { token events(where: {data: {equals: "1"}}, take: 2) { id } } }');
  assert.deepEqual(query.arguments, { orderBy: [{ token: 'asc' }] });
  assert.deepEqual(query.selection, {
    token: true,
    events: { arguments: { where: { data: { equals: json('1') } }, take: 2 }, selection: { id: true } },
  });
});

for (const [what, document] of [
  ['text that is not GraphQL', 'query { findManyKey('],
  ['an unknown model', 'query { findManyNothing { id } }'],
  ['two root fields', 'query { a: findManyKey { token } b: findManyKey { token } }'],
  ['two operations', 'query A { findManyKey { token } } query B { findManyKey { token } }'],
  ['a variable', 'query ($x: String) { findManyKey(where: {token: $x}) { token } }'],
  ['a fragment', 'query { findManyKey { ... on Key { token } } }'],
]) {
  test(`${what} is refused`, () => assert.throws(() => translate(String(document), models)));
}
