'use strict';

const { checkHost } = require('./doctor-host.js');
const { checkPlugins } = require('./doctor-plugins.js');
const { checkSystem } = require('./doctor-system.js');
const { oneLine } = require('./problems.js');
const { hasColour, print } = require('./stdout.js');

const CODES = { ok: 32, warning: 33, problem: 31 };

/**
 * A check is `{ status, check, plugin, seen, remedy, fixed }`: status ok, warning or problem; `remedy` the command that mends it. Lines of
 * plugins come only with something to say, and one line says that the others are fine.
 */
async function doctor({ options, envsDir }) {
  const checks = [...checkSystem(envsDir), ...checkHost(envsDir), ...(await checkPlugins(envsDir, { fix: Boolean(options.fix) }))];
  const count = (status) => checks.filter((check) => check.status === status && !check.fixed).length;
  const [problems, warnings] = [count('problem'), count('warning')];
  if (options.json) print(`${JSON.stringify({ envsDir, checks, problems, warnings })}\n`);
  else print(`${checks.map(line).join('\n')}\n`);
  return problems > 0 ? 1 : 0;
}

function line({ status, check, plugin, seen, remedy, fixed }) {
  const colour = hasColour();
  const word = fixed ? 'fixed' : status;
  const painted = colour ? `\u001b[${CODES[fixed ? 'ok' : status]}m${word.padEnd(7)}\u001b[0m` : word.padEnd(7);
  const what = plugin === null ? check : `${check}, ${oneLine(plugin)}`;
  return `${painted}  ${what}: ${oneLine(seen)}${remedy === null || fixed ? '' : `; mend: ${oneLine(remedy)}`}`;
}

module.exports = { doctor };
