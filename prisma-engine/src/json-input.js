/**
 * Marks the strings that stand where the schema has Json. Pure.
 *
 * GraphQL carries Json as a string of JSON text; the JSON protocol takes an untagged string there for a JSON *string*, and
 * would store `"{\"a\":1}"`. So arguments are walked along the schema and each such string becomes {$type: 'Json'}.
 */

/** @import { Models } from './schema.js' */

/** Operators of a Json filter whose value is not itself Json. */
const PLAIN_IN_JSON = new Set(['path', 'mode', 'string_contains', 'string_starts_with', 'string_ends_with']);

/** Operations inside a relation field; each holds input of the related model, bare or in a wrapper. */
const RELATION_OPERATIONS = new Set([
  'create', 'createMany', 'connect', 'connectOrCreate', 'disconnect', 'set', 'update', 'updateMany', 'upsert', 'delete',
  'deleteMany', 'some', 'every', 'none', 'is', 'isNot',
]);

/** Relation operations whose input is wrapped, with the wrapper's parts. */
const WRAPPED = new Map([
  ['createMany', ['data']],
  ['connectOrCreate', ['where', 'create']],
  ['update', ['where', 'data']],
  ['updateMany', ['where', 'data']],
  ['upsert', ['where', 'create', 'update']],
]);

/**
 * @param {unknown} input  input of `model`: data or a filter; lists of them too
 * @param {string} model
 * @param {Models} models
 * @returns {unknown} the same value with its Json strings tagged
 */
export function tagJsonInput(input, model, models) {
  if (Array.isArray(input)) return input.map((item) => tagJsonInput(item, model, models));
  return isObject(input) ? mapObject(input, (value, key) => tagField(key, value, model, models)) : input;
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {string} model
 * @param {Models} models
 * @returns {unknown}
 */
function tagField(name, value, model, models) {
  const type = models.get(model)?.get(name);
  if (type === 'Json') return tag(value);
  // A name that is no field here is AND, OR, NOT or a compound key: the model stays.
  return type === undefined ? tagJsonInput(value, model, models) : relation(value, type, models);
}

/**
 * @param {unknown} input
 * @param {string} model
 * @param {Models} models
 * @returns {unknown}
 */
function relation(input, model, models) {
  if (!isObject(input)) return input;
  return mapObject(input, (value, key) => {
    if (!RELATION_OPERATIONS.has(key)) return tagField(key, value, model, models); // a filter without `is`
    return Array.isArray(value) ? value.map((item) => operation(key, item, model, models)) : operation(key, value, model, models);
  });
}

/**
 * @param {string} name
 * @param {unknown} input
 * @param {string} model
 * @param {Models} models
 * @returns {unknown}
 */
function operation(name, input, model, models) {
  const parts = WRAPPED.get(name);
  // `update` of a single related record may come without its wrapper.
  const wrapped = parts !== undefined && isObject(input) && (name !== 'update' || typeof input['data'] === 'object');
  if (!wrapped) return tagJsonInput(input, model, models);
  return mapObject(input, (value, key) => (parts.includes(key) ? tagJsonInput(value, model, models) : value));
}

/**
 * @param {unknown} value
 * @returns {unknown}
 */
function tag(value) {
  if (typeof value === 'string') return { $type: 'Json', value };
  if (Array.isArray(value)) return value.map(tag);
  return isObject(value) ? mapObject(value, (item, key) => (PLAIN_IN_JSON.has(key) ? item : tag(item))) : value;
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>} true for a plain object that is not a tagged value already
 */
function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !('$type' in value);
}

/**
 * @param {Record<string, unknown>} object
 * @param {(value: unknown, key: string) => unknown} change
 * @returns {Record<string, unknown>}
 */
function mapObject(object, change) {
  for (const key in object) object[key] = change(object[key], key);
  return object;
}
