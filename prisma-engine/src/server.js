/**
 * The HTTP face of Prisma's native query engine: POST /, /transaction/..., GET /status and /metrics.
 */
import { createServer } from 'node:http';
import { EXIT_PANIC, describe, engineFailure } from './errors.js';

/** @import { IncomingMessage, Server } from 'node:http' */
/** @import { Engine } from './engine.js' */
/** @typedef {{ status: number, body: object | string, fatal?: boolean }} Reply  `fatal`: the engine must not be used again */

const TRANSACTION = /^\/transaction\/(?:(start)|([^/]+)\/(commit|rollback))$/;

/**
 * @param {Engine} engine
 * @returns {Server}
 */
export function makeServer(engine) {
  const server = createServer(async (request, response) => {
    const { status, body, fatal } = await reply(engine, request);
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    response.writeHead(status, {
      'content-type': typeof body === 'string' ? 'text/plain' : 'application/json',
      'content-length': Buffer.byteLength(text),
    });
    // A WASM trap leaves the engine's memory in an unknown state: answer, then end, and the client starts another.
    response.end(text, () => fatal && process.exit(EXIT_PANIC));
  });
  // The client pools connections and does not retry a POST on one that was closed under it: never close first.
  server.keepAliveTimeout = 0;
  server.headersTimeout = 0;
  server.requestTimeout = 0;
  return server;
}

/**
 * @param {Engine} engine
 * @param {IncomingMessage} request
 * @returns {Promise<Reply>}
 */
async function reply(engine, request) {
  try {
    // Raw SQL behind no password: a page in a browser on this machine must not reach it (its requests carry an Origin).
    if (request.headers.origin !== undefined) return { status: 403, body: { error: 'browsers are not served' } };
    const url = new URL(request.url ?? '/', 'http://engine');
    if (request.method === 'GET' && url.pathname === '/status') return { status: 200, body: { status: 'ok' } };
    if (request.method === 'GET' && url.pathname === '/metrics') {
      const json = url.searchParams.get('format') === 'json';
      return { status: 200, body: json ? { counters: [], gauges: [], histograms: [] } : '' };
    }
    if (request.method !== 'POST') return { status: 404, body: { error: 'not found' } };
    const body = await readBody(request);
    const [, start, id = '', end] = TRANSACTION.exec(url.pathname) ?? [];
    if (start) return await engine.startTransaction(body);
    if (end === 'commit') return await engine.commitTransaction(id);
    if (end === 'rollback') return await engine.rollbackTransaction(id);
    if (url.pathname !== '/') return { status: 404, body: { error: 'not found' } };
    const transaction = request.headers['x-transaction-id'];
    return { status: 200, body: await engine.query(body, transaction === undefined ? undefined : String(transaction)) };
  } catch (error) {
    console.error(`prisma-engine: a request failed: ${describe(error).text}`);
    const transaction = request.url?.startsWith('/transaction') ?? false;
    return { status: transaction ? 500 : 200, body: engineFailure(error), fatal: error instanceof WebAssembly.RuntimeError };
  }
}

/** @param {IncomingMessage} request */
async function readBody(request) {
  /** @type {Buffer[]} */
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
