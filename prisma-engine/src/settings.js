/**
 * What the client hands to an engine it starts: arguments and environment. Pure but for reading the schema file.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { StartError, describe } from './errors.js';

/** @typedef {{ host: string, port: number, datamodel: string, databaseUrl: string }} Settings */

/**
 * @param {string[]} argv  as prisma-client-py passes it: -p PORT --enable-metrics --enable-raw-queries
 * @param {Record<string, string | undefined>} env
 * @returns {Settings}
 * @throws {StartError}
 */
export function readSettings(argv, env) {
  const { values } = parseArgs({
    args: argv,
    strict: false,
    options: { port: { type: 'string', short: 'p' }, host: { type: 'string', short: 'H' } },
  });
  const datamodel = readDatamodel(env);
  return {
    host: String(values.host ?? '127.0.0.1'),
    port: Number(values.port ?? 4466),
    datamodel,
    databaseUrl: overriddenUrl(env['OVERWRITE_DATASOURCES']) ?? configuredUrl(datamodel, env),
  };
}

/** @param {Record<string, string | undefined>} env */
function readDatamodel(env) {
  const path = env['PRISMA_DML_PATH'];
  if (!path) throw new StartError("PRISMA_DML_PATH is not set. Let Prisma's client start the engine, or set it to a schema.prisma.");
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new StartError(`the Prisma schema ${path} cannot be read (${describe(error).code}). Run 'gatehouse engine install' again.`);
  }
}

/**
 * @param {string | undefined} text  JSON [{"name", "url"}], given when a client is made with a `datasource`
 * @returns {string | undefined}
 */
function overriddenUrl(text) {
  if (!text) return undefined;
  try {
    return JSON.parse(text)[0].url;
  } catch {
    throw new StartError('OVERWRITE_DATASOURCES is not a JSON list with a url. Start the engine through a Prisma client.');
  }
}

/**
 * @param {string} datamodel
 * @param {Record<string, string | undefined>} env
 * @returns {string} '' when the variable that the datasource names is not set
 */
function configuredUrl(datamodel, env) {
  const [, variable, literal] = /datasource\s+\w+\s*\{[^}]*?\n\s*url\s*=\s*(?:env\("([^"]+)"\)|"([^"]+)")/.exec(datamodel) ?? [];
  return (variable === undefined ? literal : env[variable]) ?? '';
}
