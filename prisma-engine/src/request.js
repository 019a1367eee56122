/**
 * GraphQL, as prisma-client-py writes it, to the JSON protocol that the WASM engine reads.
 * Pure. One document holds one operation with one root field and no variables; anything else is refused.
 */
import { parse } from 'graphql/language/parser.js';
import { tagJsonInput } from './json-input.js';

/** @import { ValueNode, FieldNode, SelectionSetNode, ArgumentNode, ObjectFieldNode } from 'graphql/language/ast.js' */
/** @import { Models } from './schema.js' */
/** @typedef {{ arguments: Record<string, unknown>, selection: Record<string, unknown> }} FieldQuery */
/** @typedef {{ modelName?: string, action: string, query: FieldQuery }} JsonQuery */
/** @typedef {{ alias: string, raw: boolean, body: JsonQuery }} Translation  `alias` names the result, `raw` asks for raw shaping */

/** GraphQL root fields are prefix + model + suffix. The longer of two that match stands first.
 * @type {[prefix: string, suffix: string, action: string][]} */
const ROOTS = [
  ['findUnique', 'OrThrow', 'findUniqueOrThrow'],
  ['findFirst', 'OrThrow', 'findFirstOrThrow'],
  ['findUnique', '', 'findUnique'],
  ['findFirst', '', 'findFirst'],
  ['findMany', '', 'findMany'],
  ['createOne', '', 'createOne'],
  ['createMany', 'AndReturn', 'createManyAndReturn'],
  ['createMany', '', 'createMany'],
  ['updateOne', '', 'updateOne'],
  ['updateMany', '', 'updateMany'],
  ['upsertOne', '', 'upsertOne'],
  ['deleteOne', '', 'deleteOne'],
  ['deleteMany', '', 'deleteMany'],
  ['aggregate', '', 'aggregate'],
  ['groupBy', '', 'groupBy'],
];

/** Arguments that name fields and hold no data. */
const NO_DATA = new Set(['orderBy', 'by', 'distinct']);

/**
 * @param {string} document
 * @param {Models} models
 * @returns {Translation}
 * @throws {Error} when the document is not GraphQL, or not of the shape above
 */
export function translate(document, models) {
  const { definitions } = parse(document, { noLocation: true });
  const [operation] = definitions;
  if (definitions.length !== 1 || operation?.kind !== 'OperationDefinition') throw new Error('expected one operation');
  const [field] = operation.selectionSet.selections;
  if (operation.selectionSet.selections.length !== 1 || field?.kind !== 'Field') throw new Error('expected one root field');
  const { modelName, action } = rootField(field.name.value, models);
  const query = { arguments: args(field.arguments, modelName, models), selection: selection(field.selectionSet, modelName, models) };
  return {
    alias: (field.alias ?? field.name).value,
    raw: modelName === undefined,
    body: modelName === undefined ? { action, query } : { modelName, action, query },
  };
}

/**
 * @param {string} name
 * @param {Models} models
 * @returns {{ modelName?: string, action: string }}
 */
function rootField(name, models) {
  if (name === 'queryRaw' || name === 'executeRaw') return { action: name };
  for (const [prefix, suffix, action] of ROOTS) {
    if (!name.startsWith(prefix) || !name.endsWith(suffix)) continue;
    const modelName = name.slice(prefix.length, name.length - suffix.length);
    if (models.has(modelName)) return { modelName, action };
  }
  throw new Error(`unknown root field ${name}`);
}

/**
 * @param {readonly ArgumentNode[] | undefined} list
 * @param {string | undefined} model
 * @param {Models} models
 */
function args(list, model, models) {
  const values = fields(list ?? []);
  if (model !== undefined) {
    for (const name in values) if (!NO_DATA.has(name)) values[name] = tagJsonInput(values[name], model, models);
  }
  return values;
}

/**
 * @param {SelectionSetNode | undefined} set
 * @param {string | undefined} model
 * @param {Models} models
 * @returns {Record<string, unknown>}
 */
function selection(set, model, models) {
  /** @type {Record<string, unknown>} */
  const selected = {};
  for (const field of set?.selections ?? []) {
    if (field.kind !== 'Field') throw new Error(`unsupported GraphQL selection ${field.kind}`);
    selected[field.name.value] = isLeaf(field) || nested(field, model, models);
  }
  return selected;
}

/** @param {FieldNode} field */
function isLeaf(field) {
  return field.selectionSet === undefined && !field.arguments?.length;
}

/**
 * @param {FieldNode} field
 * @param {string | undefined} model
 * @param {Models} models
 * @returns {FieldQuery}
 */
function nested(field, model, models) {
  const type = model === undefined ? undefined : models.get(model)?.get(field.name.value);
  const related = type === 'Json' ? undefined : type;
  return { arguments: args(field.arguments, related, models), selection: selection(field.selectionSet, related, models) };
}

/** @param {readonly (ArgumentNode | ObjectFieldNode)[]} list */
function fields(list) {
  /** @type {Record<string, unknown>} */
  const object = {};
  for (const field of list) object[field.name.value] = value(field.value);
  return object;
}

/**
 * @param {ValueNode} node
 * @returns {unknown}
 */
function value(node) {
  switch (node.kind) {
    case 'StringValue':
    case 'EnumValue':
    case 'BooleanValue':
      return node.value;
    case 'IntValue': {
      const number = Number(node.value);
      return Number.isSafeInteger(number) ? number : { $type: 'BigInt', value: node.value };
    }
    case 'FloatValue':
      return Number(node.value);
    case 'NullValue':
      return null;
    case 'ListValue':
      return node.values.map(value);
    case 'ObjectValue':
      return fields(node.fields);
    default:
      throw new Error(`unsupported GraphQL value ${node.kind}`);
  }
}
