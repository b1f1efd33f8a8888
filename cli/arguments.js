'use strict';

const path = require('node:path');
const { parseArgs } = require('node:util');

const { COMMON, VERBS, findVerb, optionsOf } = require('./verbs.js');

/**
 * What the words ask for: `{ help }` (the verb, or null for all), `{ version }`, or a verb with its operands and options. Options of
 * all verbs may also come before the verb.
 */
function parse(argv) {
  // Node.js 18.0 to 18.2. The package itself works there.
  if (parseArgs === undefined) throw failed(`the command line needs Node.js 18.3 or later, and this is ${process.version}`);
  const { before, name, after } = split(argv);
  if (name === undefined) return withoutVerb(before);
  if (name === 'help') return helpOf(after);
  const verb = findVerb(name);
  if (verb === undefined) throw usageError(`'${name}' is no verb${nearest(name)}`);
  const { values, positionals } = parseWords([...before, ...after], optionsOf(verb), verb.name);
  if (values.help) return { help: verb };
  if (positionals.length < verb.least) throw usageError(`${verb.name} needs ${verb.operands}`, verb.name);
  if (positionals.length > verb.most) {
    throw usageError(
      `${verb.name} takes ${verb.most === 0 ? 'no operand' : verb.operands}, got '${positionals.at(-1)}' as well`,
      verb.name,
    );
  }
  return { verb, operands: positionals, options: values, envsDir: envsDirOf(values['envs-dir'], verb) };
}

/** The words before the verb, the verb, and the words after it. */
function split(argv) {
  const takesValue = (word) => COMMON.some(({ name, type }) => type === 'string' && word === `--${name}`);
  let at = 0;
  while (at < argv.length && argv[at].startsWith('-') && argv[at] !== '--') at += takesValue(argv[at]) ? 2 : 1;
  return { before: argv.slice(0, at), name: argv[at], after: argv.slice(at + 1) };
}

function withoutVerb(words) {
  const version = { name: 'version', short: 'V', type: 'boolean' };
  const { values } = parseWords(words, [...COMMON, version]);
  if (values.version) return { version: true };
  if (values.help) return { help: null };
  throw usageError(`a verb is needed: ${VERBS.map(({ name }) => name).join(', ')}`);
}

function helpOf([name, ...more]) {
  if (name === undefined) return { help: null };
  const verb = findVerb(name);
  if (verb === undefined || more.length > 0) throw usageError(`there is no help for '${[name, ...more].join(' ')}'`);
  return { help: verb };
}

function parseWords(args, options, verb) {
  const known = Object.fromEntries(options.map(({ name, type, short }) => [name, short === undefined ? { type } : { type, short }]));
  try {
    return parseArgs({ args, options: known, allowPositionals: true, strict: true });
  } catch (error) {
    if (!String(error.code).startsWith('ERR_PARSE_ARGS_')) throw error;
    // The rest of the message says how to pass such a word as an operand.
    throw usageError(error.message.split('. ')[0], verb);
  }
}

/** Undefined for a verb that needs none. */
function envsDirOf(given, { name }) {
  if (given === '') throw usageError('--envs-dir needs a folder', name);
  if (given !== undefined) return path.resolve(given);
  return require('../lib/home.js').defaultEnvsDir((problem) => {
    throw failed(`--envs-dir ${problem}`);
  });
}

function nearest(name) {
  const near = VERBS.find((verb) => verb.name.startsWith(name.slice(0, 2)));
  return near === undefined ? '' : `, but '${near.name}' is`;
}

function usageError(message, verb) {
  const { UsageError } = require('./problems.js');
  return new UsageError(message, verb);
}

function failed(message) {
  const { Failed } = require('./problems.js');
  return new Failed(message);
}

module.exports = { parse };
