/**
 * Starts the engine as prisma-client-py starts the native one, and ends with the process that started it.
 */
import process from 'node:process';
import { EXIT_PANIC, describe } from './errors.js';

/** How often to look whether the parent is still there, in milliseconds. */
const PARENT_CHECK_MS = 1000;

// LiteLLM finds engines whose worker died by the start of this name.
process.title = 'query-engine';
const parent = process.ppid;
setInterval(() => process.ppid !== parent && process.exit(0), PARENT_CHECK_MS).unref();
// A WASM trap arrives here when it happens between two answers of the database. The client starts another engine.
process.on('uncaughtException', (error) => {
  console.error(`prisma-engine: the engine failed (${describe(error).text}) and ends; the next query starts another.`);
  process.exit(EXIT_PANIC);
});

try {
  const { openEngine } = await import('./engine.js');
  const { readSettings } = await import('./settings.js');
  const { makeServer } = await import('./server.js');
  const { host, port, datamodel, databaseUrl } = readSettings(process.argv.slice(2), process.env);
  const engine = await openEngine(datamodel, databaseUrl);
  const server = makeServer(engine);
  server.on('error', fail);
  server.listen(port, host);

  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(0), 3000).unref(); // a database that hangs must not hold the exit
    server.close();
    server.closeIdleConnections();
    await engine.close().catch(() => {});
    process.exit(0);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
} catch (error) {
  fail(/** @type {Error & { code?: string }} */ (error));
}

/** @param {Error & { code?: string }} error */
function fail(error) {
  const missing = error.code === 'ERR_MODULE_NOT_FOUND' || error.code === 'MODULE_NOT_FOUND';
  const sentence = missing
    ? "its npm packages are incomplete. Run 'gatehouse engine install --engine wasm'."
    : error.code === 'EADDRINUSE'
      ? `${error.message}. Another process took the port; start again.`
      : error.message;
  console.error(`error: prisma-engine: ${sentence}`);
  process.exit(1);
}
