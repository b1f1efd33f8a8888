'use strict';

const { ownerText } = require('./disk.js');
const { leftovers } = require('./leftovers.js');
const { rowOf } = require('./plugins.js');
const { oneLine, problem } = require('./problems.js');
const { print } = require('./stdout.js');
const { sentenceOf } = require('./stop.js');

/** Only the host restarts a daemon for others, and the host has shared daemons only. */
async function restart({ operands, options, envsDir }) {
  let asking;
  const host = () => {
    asking ??= leftovers(envsDir, { signals: false });
    return asking;
  };
  const plugins = await Promise.all([...new Set(operands)].map((name) => restartOne(name, envsDir, host)));
  if (options.json) print(`${JSON.stringify({ envsDir, plugins })}\n`);
  for (const { name, error } of plugins) {
    if (error !== null) problem(error);
    else if (!options.json) print(`${oneLine(name)}: restarted\n`);
  }
  return plugins.some(({ error }) => error !== null) ? 1 : 0;
}

async function restartOne(name, envsDir, host) {
  const failed = (error) => ({ name, result: 'failed', error });
  try {
    const row = rowOf(envsDir, name);
    if (row.owner?.kind !== 'shared') return failed(refusalOf(row));
    await host().restart(name);
    return { name, result: 'restarted', error: null };
  } catch (error) {
    return failed(sentenceOf(name, error));
  }
}

function refusalOf({ name, owner }) {
  if (owner === null) return `${name} is not running`;
  if (owner.kind === 'dead') return `${name} has no owner that could restart it: ally-daemons stop ${name}`;
  return `${name} is not shared: its owner must restart it (process ${ownerText(owner)})`;
}

module.exports = { restart };
