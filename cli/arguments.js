'use strict';

const path = require('node:path');
const { parseArgs } = require('node:util');

const { Failed, UsageError } = require('./problems.js');
const { COMMON, VERBS, findVerb, optionsOf } = require('./verbs.js');

/**
 * What the words ask for: `{ help }` (the verb, or null for all), `{ version }`, or a verb with its operands and options. Options of
 * all verbs may also come before the verb.
 */
function parse(argv) {
  // Node.js 18.0 to 18.2. The package itself works there.
  if (parseArgs === undefined) throw new Failed(`the command line needs Node.js 18.3 or later, and this is ${process.version}`);
  const { before, name, after } = split(argv);
  if (name === undefined) return withoutVerb(before);
  if (name === 'help') return helpOf(after);
  const verb = findVerb(name);
  if (verb === undefined) throw new UsageError(`'${name}' is no verb${nearest(name)}`);
  const { values, positionals } = parseWords([...before, ...after], optionsOf(verb), verb.name);
  if (values.help) return { help: verb };
  if (positionals.length < verb.least) throw new UsageError(`${verb.name} needs ${verb.operands}`, verb.name);
  if (positionals.length > verb.most) {
    throw new UsageError(
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
  throw new UsageError(`a verb is needed: ${VERBS.map(({ name }) => name).join(', ')}`);
}

function helpOf([name, ...more]) {
  if (name === undefined) return { help: null };
  const verb = findVerb(name);
  if (verb === undefined || more.length > 0) throw new UsageError(`there is no help for '${[name, ...more].join(' ')}'`);
  return { help: verb };
}

function parseWords(args, options, verb) {
  const known = Object.fromEntries(options.map(({ name, type, short }) => [name, short === undefined ? { type } : { type, short }]));
  try {
    return parseArgs({ args, options: known, allowPositionals: true, strict: true });
  } catch (error) {
    if (!String(error.code).startsWith('ERR_PARSE_ARGS_')) throw error;
    // The rest of the message says how to pass such a word as an operand.
    throw new UsageError(error.message.split('. ')[0], verb);
  }
}

/** Undefined for a verb that needs none. */
function envsDirOf(given, { name }) {
  if (given === '') throw new UsageError('--envs-dir needs a folder', name);
  if (given !== undefined) return path.resolve(given);
  return require('../lib/home.js').defaultEnvsDir((problem) => {
    throw new Failed(`--envs-dir ${problem}`);
  });
}

function nearest(name) {
  const near = VERBS.find((verb) => verb.name.startsWith(name.slice(0, 2)));
  return near === undefined ? '' : `: is '${near.name}' meant?`;
}

module.exports = { parse };
