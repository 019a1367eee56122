/**
 * Errors in the words the clients know: Prisma's codes for a running engine, one sentence for one that cannot start.
 */

/** @typedef {{ message: string, error_code?: string, meta?: unknown, is_panic?: boolean }} UserFacingError */
/** @typedef {{ error?: string, user_facing_error?: UserFacingError }} EngineError */
/** @typedef {{ code: string, message: string }} PrismaError */
/** @typedef {{ host: string, port: number, user: string, database: string }} Place  where the database is; never its password */

/** What keeps the engine from starting, as one sentence with its next step. */
export class StartError extends Error {}

/** SQLSTATEs with which Postgres says that it is going down, or not up yet: 57P01 to 57P03 (PostgreSQL manual, appendix A). */
export const GOING_AWAY = new Set(['57P01', '57P02', '57P03']);

/** Exit code of an engine that panicked, as of Rust programs. */
export const EXIT_PANIC = 101;

const UNREACHABLE = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'ENOENT', 'EACCES']);

/**
 * @param {unknown} error
 * @returns {{ code: string, text: string }} an error's code and message; node gives some connection errors no message
 */
export function describe(error) {
  const { code, message } = /** @type {{ code?: unknown, message?: unknown }} */ (Object(error));
  return { code: typeof code === 'string' ? code : '', text: String(message || code || error) };
}

/**
 * The native engine's code for an error thrown by the Postgres driver. LiteLLM tells an outage (503, reconnect) from a bad
 * request by the words "can't reach database server", "connection closed" and "timed out".
 * @param {unknown} error
 * @param {Place} place
 * @returns {PrismaError}
 */
export function fromDriver(error, { host, port }) {
  const { code, text } = describe(error);
  if (text.includes('timeout exceeded when trying to connect')) {
    return { code: 'P2024', message: 'Timed out fetching a new connection from the connection pool.' };
  }
  if (UNREACHABLE.has(code) || text.includes('due to connection timeout')) {
    return { code: 'P1001', message: `Can't reach database server at \`${host}:${port}\` (${text})` };
  }
  return { code: 'P1017', message: `Server has closed the connection (connection closed: ${text})` };
}

/**
 * Errors of the driver come out of the engine as P2036 with a number under which the adapter keeps the real one.
 * @param {EngineError[]} errors  changed in place
 * @param {(id: number) => unknown} takeDriverError
 * @param {Place} place
 */
export function nameDriverErrors(errors, takeDriverError, place) {
  for (const entry of errors) {
    const facing = entry.user_facing_error;
    if (facing?.error_code !== 'P2036') continue;
    const { id } = /** @type {{ id?: number }} */ (facing.meta ?? {});
    const { code, message } = fromDriver(id === undefined ? undefined : takeDriverError(id), place);
    entry.user_facing_error = { is_panic: false, message, meta: {}, error_code: code };
    entry.error = message;
  }
}

/**
 * @param {string} reason
 * @returns {{ errors: EngineError[] }} the answer to a query that could not be translated (P2009: query validation failed)
 */
export function invalidQuery(reason) {
  const message = `Error parsing GraphQL query: ${reason}`;
  const meta = { query_validation_error: message, query_position: '' };
  return { errors: [{ error: message, user_facing_error: { is_panic: false, message, meta, error_code: 'P2009' } }] };
}

/**
 * @param {unknown} error  thrown by the engine itself; its message is often a user-facing error in JSON
 * @returns {{ errors: EngineError[] }}
 */
export function engineFailure(error) {
  const { text } = describe(error);
  /** @type {UserFacingError} */
  let facing = { is_panic: true, message: text, meta: {} };
  try {
    facing = { ...facing, is_panic: false, ...JSON.parse(text) };
  } catch {
    // Not JSON: the text is the message.
  }
  return { errors: [{ error: facing.message, user_facing_error: { ...facing, meta: facing.meta ?? {} } }] };
}

/** @returns {UserFacingError} for an id that no transaction can have (P2028: transaction API error) */
export function unknownTransaction() {
  const error = 'Transaction not found. Transaction ID is invalid.';
  return { is_panic: false, message: `Transaction API error: ${error}`, meta: { error }, error_code: 'P2028' };
}

/**
 * HTTP status of a failed transaction call, as prisma-engines' server gives them. The client shows the reason of a 500 and
 * hides that of a 422, so a lost database must not be one.
 * @param {UserFacingError} error
 */
export function transactionStatus({ error_code: code, message, meta }) {
  if (code !== 'P2028') return 500;
  const reason = /** @type {{ error?: string } | undefined} */ (meta)?.error ?? message;
  if (reason.includes('Unable to start')) return 504;
  if (/not found|expired/i.test(reason)) return 404;
  return /closed/i.test(reason) ? 422 : 500;
}

/**
 * @param {unknown} error  from the first connection
 * @param {Place} place
 * @returns {StartError}
 */
export function cannotConnect(error, { host, port, user, database }) {
  const { code, text } = describe(error);
  const at = `${host}:${port}`;
  if (code === '28P01' || code === '28000') {
    return new StartError(`Postgres at ${at} refused user ${user}: ${text}. Correct the user and password in DATABASE_URL.`);
  }
  if (code === '3D000') {
    return new StartError(`Postgres at ${at} has no database ${database}. Create it, or correct DATABASE_URL.`);
  }
  return new StartError(`the database at ${at} cannot be reached: ${text}. Start Postgres, or correct DATABASE_URL.`);
}
