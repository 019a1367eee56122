/**
 * Prisma's WASM query engine on a pool of Postgres connections, asked in GraphQL and answering as the native engine does.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { checkConnection, openAdapter, openPool, readDatabaseUrl } from './database.js';
import { StartError, describe, engineFailure, invalidQuery, nameDriverErrors, transactionStatus, unknownTransaction } from './errors.js';
import { translate } from './request.js';
import { shape } from './response.js';
import { readModels } from './schema.js';

/** @import { Answer } from './response.js' */
/** @import { EngineError, UserFacingError } from './errors.js' */
/** @typedef {Answer & { batchResult?: Answer[] }} QueryAnswer */
/**
 * @typedef {object} WasmEngine
 * @property {(trace: string) => Promise<void>} connect
 * @property {(trace: string) => Promise<void>} disconnect
 * @property {(body: string, trace: string, transaction?: string) => Promise<string>} query
 * @property {(options: string, trace: string) => Promise<string>} startTransaction
 * @property {(id: string, trace: string) => Promise<string>} commitTransaction
 * @property {(id: string, trace: string) => Promise<string>} rollbackTransaction
 */
/** @typedef {{ QueryEngine: new (options: object, log: () => void, adapter: object) => WasmEngine, __wbg_set_wasm(exports: object): void }} WasmModule */
/** @typedef {Awaited<ReturnType<typeof openEngine>>} Engine */

const NO_TRACE = '{}';
/** Prisma's defaults for an interactive transaction, in milliseconds. */
const TRANSACTION_DEFAULTS = { max_wait: 2000, timeout: 5000 };
/** prisma-engines' TxId::MINIMUM_TX_ID_LENGTH; the WASM engine panics on a shorter one. */
const MIN_TRANSACTION_ID = 24;

/**
 * @param {string} datamodel  text of schema.prisma
 * @param {string} databaseUrl
 * @throws {StartError}
 */
export async function openEngine(datamodel, databaseUrl) {
  const config = readDatabaseUrl(databaseUrl);
  const models = readModels(datamodel);
  // The WASM engine takes a schema as validated and would fail at the first query, without words.
  if (models.size === 0) throw new StartError("the Prisma schema has no models. Run 'gatehouse engine install' again.");
  const pool = openPool(config);
  const adapter = openAdapter(pool, config.schema);
  const wasm = startWasm(datamodel, adapter);
  await checkConnection(pool, config.place);
  await wasm.connect(NO_TRACE);

  /** @param {unknown[] | undefined} errors */
  const nameErrors = (errors) => {
    const takeDriverError = (/** @type {number} */ id) => adapter.errorRegistry.consumeError(id)?.error;
    nameDriverErrors(/** @type {EngineError[]} */ (errors ?? []), takeDriverError, config.place);
  };

  return {
    /**
     * @param {string} body  {"query"} or {"batch": [{"query"}], "transaction", "isolationLevel"}
     * @param {string | undefined} transaction  id of an open interactive transaction
     * @returns {Promise<QueryAnswer>}
     */
    async query(body, transaction) {
      if (transaction !== undefined && transaction.length < MIN_TRANSACTION_ID) {
        const error = unknownTransaction();
        return { errors: [{ error: error.message, user_facing_error: error }] };
      }
      let request, requests;
      try {
        request = JSON.parse(body);
        requests = (request.batch ?? [request]).map((/** @type {{ query: string }} */ { query }) => translate(query, models));
      } catch (error) {
        return invalidQuery(describe(error).text);
      }
      const payload = request.batch
        ? { batch: requests.map((/** @type {{ body: object }} */ { body }) => body), transaction: request.transaction ? { isolationLevel: request.isolationLevel ?? null } : undefined }
        : requests[0].body;
      /** @type {QueryAnswer} */
      let answer;
      try {
        answer = JSON.parse(await wasm.query(JSON.stringify(payload), NO_TRACE, transaction));
      } catch (error) {
        if (error instanceof WebAssembly.RuntimeError) throw error;
        return engineFailure(error);
      }
      nameErrors(answer.errors);
      if (!request.batch) return shape(requests[0], answer);
      answer.batchResult = answer.batchResult?.map((item, index) => {
        nameErrors(item.errors);
        return shape(requests[index], item);
      });
      return answer;
    },

    /**
     * @param {string} body  {"max_wait", "timeout"} in milliseconds, {"isolation_level"}
     */
    async startTransaction(body) {
      const options = { ...TRANSACTION_DEFAULTS, ...JSON.parse(body || '{}') };
      return transactionAnswer(await wasm.startTransaction(JSON.stringify(options), NO_TRACE));
    },
    /** @param {string} id */
    async commitTransaction(id) {
      return transactionAnswer(await end('commitTransaction', id));
    },
    /** @param {string} id */
    async rollbackTransaction(id) {
      return transactionAnswer(await end('rollbackTransaction', id));
    },

    async close() {
      await wasm.disconnect(NO_TRACE);
      await pool.end();
    },
  };

  /**
   * @param {'commitTransaction' | 'rollbackTransaction'} how
   * @param {string} id
   */
  async function end(how, id) {
    return id.length < MIN_TRANSACTION_ID ? JSON.stringify(unknownTransaction()) : wasm[how](id, NO_TRACE);
  }

  /**
   * @param {string} text
   * @returns {{ status: number, body: object }}
   */
  function transactionAnswer(text) {
    const body = /** @type {UserFacingError | null} */ (JSON.parse(text));
    if (!body?.error_code) return { status: 200, body: body ?? {} };
    const entry = { user_facing_error: body };
    nameErrors([entry]);
    const named = entry.user_facing_error;
    return { status: transactionStatus(named), body: named };
  }
}

/**
 * @param {string} datamodel
 * @param {object} adapter
 * @returns {WasmEngine}
 */
function startWasm(datamodel, adapter) {
  const require = createRequire(import.meta.url);
  const name = '@prisma/client/runtime/query_engine_bg.postgresql';
  /** @type {WasmModule} */
  const runtime = require(`${name}.js`);
  const module = new WebAssembly.Module(readFileSync(require.resolve(`${name}.wasm`)));
  runtime.__wbg_set_wasm(new WebAssembly.Instance(module, { './query_engine_bg.js': /** @type {any} */ (runtime) }).exports);
  const options = {
    datamodel,
    logLevel: 'error',
    logQueries: false,
    datasourceOverrides: {},
    env: {},
    configDir: '.',
    ignoreEnvVarErrors: true,
    engineProtocol: 'json',
    enableTracing: false,
  };
  return new runtime.QueryEngine(options, () => {}, adapter);
}
