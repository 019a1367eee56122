/**
 * The connection pool, and the adapter through which the engine uses it.
 */
import pg from 'pg';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindAdapter } from '@prisma/driver-adapter-utils';
import { GOING_AWAY, StartError, cannotConnect, describe } from './errors.js';

/** @import { ErrorCapturingDriverAdapter, Queryable } from '@prisma/driver-adapter-utils' */
/** @import { Place } from './errors.js' */
/** @typedef {{ pool: import('pg').PoolConfig, schema: string, place: Place }} DatabaseConfig */
/** @typedef {{ fields: { dataTypeID: number }[] }} Rows */
/** @typedef {{ ok: true, value: Rows } | { ok: false, error: { kind: string, code?: unknown, message?: string } }} PerformResult */
/** @typedef {{ performIO(query: unknown): Promise<PerformResult> }} PerformIO  what adapter-pg runs every statement through */

/** Column types that adapter-pg 5.17 refuses and the native engine reads: "char", name, name[] and timestamptz[]. */
const READ_AS = new Map([[18, 25], [19, 25], [1003, 1009], [1185, 1115]]);
/** @typedef {import('pg-types').TypeId} TypeId */
/** pg-types names only the scalar ones. @type {(oid: number) => TypeId} */
const typeId = (oid) => /** @type {TypeId} */ (oid);
/** @type {(text: string) => (string | null)[]} */
const parseTextArray = pg.types.getTypeParser(typeId(1009));
pg.types.setTypeParser(typeId(1003), parseTextArray);
pg.types.setTypeParser(typeId(1185), (text) => parseTextArray(text).map((item) => item && item.replace(/\+00$/, '')));

/** Prisma's defaults: pool_timeout 10 s; ours for the size, since one engine serves one gateway process. */
const DEFAULT_CONNECTIONS = 10;
const DEFAULT_TIMEOUT_SECONDS = 10;
/** How long an idle connection is kept: a Postgres backend costs 5 to 10 MB, a new one about 5 ms. */
const IDLE_MS = 60_000;
/** While Postgres starts or recovers it refuses with 57P03; the client gives an engine 10 s in all to come up. */
const STARTING_UP_MS = 7_000;

/**
 * @param {string} text  postgresql://user:password@host:port/database?Prisma's parameters
 * @returns {DatabaseConfig}
 * @throws {StartError} which never contains the text: it has the password in it
 */
export function readDatabaseUrl(text) {
  if (!text) throw new StartError('DATABASE_URL is not set. Set it to postgresql://user:password@host:port/database.');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^postgres(ql)?:$/.test(url.protocol)) {
    throw new StartError('DATABASE_URL is not a postgresql:// address. Percent-encode special characters in its password.');
  }
  const query = new URLSearchParams(url.search);
  const schema = query.get('schema') ?? 'public';
  const kept = new URLSearchParams([...query].filter(([name]) => /^(ssl(mode|cert|key|rootcert)|host|application_name)$/.test(name)));
  // node-postgres knows no opportunistic TLS; the others it reads as libpq does when told so.
  if (['prefer', 'allow'].includes(kept.get('sslmode') ?? '')) kept.delete('sslmode');
  if (kept.has('sslmode')) kept.set('uselibpqcompat', 'true');
  // adapter-pg 5.17 cuts the UTC offset off a timestamptz, so every session has to be in UTC.
  const path = schema === 'public' ? '' : ` -c search_path="${schema}"`;
  kept.set('options', `${query.get('options') ?? ''} -c TimeZone=UTC${path}`.trim());
  url.search = kept.toString();
  const seconds = positive(query.get('pool_timeout')) ?? DEFAULT_TIMEOUT_SECONDS;
  return {
    schema,
    pool: {
      connectionString: url.toString(),
      max: positive(query.get('connection_limit')) ?? DEFAULT_CONNECTIONS,
      connectionTimeoutMillis: seconds * 1000,
      idleTimeoutMillis: IDLE_MS,
      keepAlive: true,
    },
    place: {
      host: query.get('host') ?? url.hostname,
      port: Number(url.port || 5432),
      user: decode(url.username),
      database: decode(url.pathname.slice(1)),
    },
  };
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // only shown; the driver says what is wrong with it
  }
}

/** @param {string | null} text */
function positive(text) {
  const number = Number.parseInt(text ?? '', 10);
  return number > 0 ? number : undefined;
}

/**
 * @param {DatabaseConfig} config
 * @returns {import('pg').Pool} one that survives the loss of any of its connections
 */
export function openPool(config) {
  const pool = new pg.Pool(config.pool);
  // Without a listener the loss of a connection would end the process: of an idle one, and of one inside a transaction.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}

/**
 * @param {import('pg').Pool} pool
 * @param {Place} place
 * @throws {StartError}
 */
export async function checkConnection(pool, place) {
  const deadline = Date.now() + STARTING_UP_MS;
  for (;;) {
    try {
      const client = await pool.connect();
      client.release();
      return;
    } catch (error) {
      if (!GOING_AWAY.has(describe(error).code) || Date.now() > deadline) throw cannotConnect(error, place);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/**
 * @param {import('pg').Pool} pool
 * @param {string} schema
 * @returns {ErrorCapturingDriverAdapter}
 */
export function openAdapter(pool, schema) {
  return bindAdapter(likeNative(new EngineAdapter(pool, { schema })));
}

class EngineAdapter extends PrismaPg {
  /** @override */
  async startTransaction() {
    return (await super.startTransaction()).map(likeNative);
  }
}

/**
 * @template {Queryable} Q
 * @param {Q} queryable
 * @returns {Q}
 */
function likeNative(queryable) {
  const inner = /** @type {PerformIO} */ (/** @type {unknown} */ (queryable));
  const perform = inner.performIO.bind(queryable);
  inner.performIO = async (query) => {
    const result = await perform(query);
    if (result.ok) {
      for (const field of result.value.fields ?? []) field.dataTypeID = READ_AS.get(field.dataTypeID) ?? field.dataTypeID;
    } else if (GOING_AWAY.has(String(result.error.code))) {
      throw new Error(result.error.message); // a lost connection (P1017), not a mistake in the statement
    }
    return result;
  };
  return queryable;
}
