/**
 * The little that translation must know of a Prisma datamodel: which fields are Json, and which lead to another model.
 */

/** @typedef {Map<string, string>} Fields  field name -> 'Json' or the related model's name; other fields are not in it */
/** @typedef {Map<string, Fields>} Models  model name -> its fields */

/**
 * @param {string} datamodel  text of a schema.prisma
 * @returns {Models}
 */
export function readModels(datamodel) {
  const bodies = [...datamodel.matchAll(/^\s*model\s+(\w+)\s*\{([\s\S]*?)^\s*\}/gm)];
  /** @type {Models} */
  const models = new Map(bodies.map(([, name = '']) => [name, new Map()]));
  for (const [, name = '', body = ''] of bodies) {
    for (const [, field = '', type = ''] of body.matchAll(/^\s*(\w+)\s+(\w+)/gm)) {
      if (type === 'Json' || models.has(type)) models.get(name)?.set(field, type);
    }
  }
  return models;
}
