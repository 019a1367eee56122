/**
 * Answers of the WASM engine (JSON protocol) in the shape the native engine gives prisma-client-py 0.11. Pure.
 */

/** @import { Translation } from './request.js' */
/** @typedef {{ columns: string[], types: string[], rows: unknown[][] }} RawResult */
/** @typedef {{ data?: Record<string, unknown>, errors?: unknown[] }} Answer */

/**
 * @param {Translation} request
 * @param {Answer} answer
 * @returns {Answer}
 */
export function shape({ alias, raw }, answer) {
  if (!answer.data) return answer;
  const [result] = Object.values(answer.data);
  return { ...answer, data: { [alias]: raw ? rawRows(result) : untag(result) } };
}

/**
 * Tagged scalars become what GraphQL had: DateTime, Decimal, Bytes and Json as strings, integers as numbers while exact.
 * @param {unknown} value
 * @returns {unknown}
 */
export function untag(value) {
  if (Array.isArray(value)) return value.map(untag);
  if (typeof value !== 'object' || value === null) return value;
  const object = /** @type {Record<string, unknown>} */ (value);
  if (typeof object['$type'] === 'string') return object['$type'] === 'BigInt' ? exact(String(object['value'])) : object['value'];
  for (const key in object) object[key] = untag(object[key]);
  return object;
}

/**
 * @param {string} digits
 * @returns {number | string} a string beyond 2^53; the client's models turn it into an int
 */
function exact(digits) {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : digits;
}

/**
 * `queryRaw` answers {columns, types, rows} since Prisma 5.14; client 0.11 reads one object a row with a type in each cell.
 * `executeRaw` answers a count and passes through.
 * @param {unknown} result
 * @returns {unknown}
 */
export function rawRows(result) {
  if (typeof result !== 'object' || result === null || !('columns' in result)) return result;
  const { columns, types, rows } = /** @type {RawResult} */ (result);
  return rows.map((row) => Object.fromEntries(columns.map((column, index) => [column, cell(types[index] ?? 'string', row[index])])));
}

/**
 * @param {string} type
 * @param {unknown} value
 * @returns {{ prisma__type: string, prisma__value: unknown }}
 */
function cell(type, value) {
  if (value === null || value === undefined) return { prisma__type: 'null', prisma__value: null };
  if (!type.endsWith('-array') || !Array.isArray(value)) return { prisma__type: type, prisma__value: value };
  const element = type.slice(0, -'-array'.length);
  return { prisma__type: 'array', prisma__value: value.map((item) => cell(element, item)) };
}
