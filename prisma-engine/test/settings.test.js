import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readDatabaseUrl } from '../src/database.js';
import { StartError } from '../src/errors.js';
import { readSettings } from '../src/settings.js';

const folder = mkdtempSync(join(tmpdir(), 'prisma-engine-'));
after(() => rmSync(folder, { recursive: true }));
const schema = join(folder, 'schema.prisma');
writeFileSync(schema, 'datasource client {\n  provider = "postgresql"\n  url      = env("DATABASE_URL")\n}\n');

test('arguments and environment are read as the Python client gives them', () => {
  const env = { PRISMA_DML_PATH: schema, DATABASE_URL: 'postgresql://a@b/c' };
  const settings = readSettings(['-p', '4711', '--enable-metrics', '--enable-raw-queries'], env);
  assert.equal(settings.port, 4711);
  assert.equal(settings.host, '127.0.0.1');
  assert.equal(settings.databaseUrl, 'postgresql://a@b/c');
});

test("a client's own datasource goes before the schema's", () => {
  const env = { PRISMA_DML_PATH: schema, DATABASE_URL: 'postgresql://a@b/c', OVERWRITE_DATASOURCES: '[{"name":"client","url":"postgresql://x@y/z"}]' };
  assert.equal(readSettings([], env).databaseUrl, 'postgresql://x@y/z');
});

test('a schema that cannot be read is told with its path', () => {
  assert.throws(() => readSettings([], { PRISMA_DML_PATH: join(folder, 'none') }), /none cannot be read/);
  assert.throws(() => readSettings([], {}), StartError);
});

test("Prisma's parameters set up the pool and do not reach Postgres", () => {
  const { pool, schema, place } = readDatabaseUrl('postgresql://u:p%40ss@h:5433/d?connection_limit=3&pool_timeout=4&schema=s&sslmode=prefer');
  assert.equal(pool.max, 3);
  assert.equal(pool.connectionTimeoutMillis, 4000);
  assert.equal(schema, 's');
  assert.deepEqual(place, { host: 'h', port: 5433, user: 'u', database: 'd' });
  const url = new URL(pool.connectionString ?? '');
  assert.deepEqual([...url.searchParams.keys()], ['options']);
  assert.match(url.searchParams.get('options') ?? '', /TimeZone=UTC.*search_path="s"/);
});

test('TLS is asked for as libpq would', () => {
  const { pool } = readDatabaseUrl('postgresql://u@h/d?sslmode=require');
  assert.match(pool.connectionString ?? '', /sslmode=require&uselibpqcompat=true/);
});

for (const url of ['', 'mysql://u:secret@h/d', 'postgresql://u:se/cret@h:port/d', 'secret']) {
  test(`'${url.replace(/se.?cret/, '...')}' is refused without showing a password`, () => {
    assert.throws(() => readDatabaseUrl(url), (error) => error instanceof StartError && !/se.?cret/.test(error.message));
  });
}
