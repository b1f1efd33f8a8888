'use strict';

const { ownerText } = require('./disk.js');
const { rowOf } = require('./plugins.js');
const { problem } = require('./problems.js');

/** Only the host restarts a daemon for others, and the host has shared daemons only. */
function restart({ operands, options, envsDir }) {
  const plugins = [...new Set(operands)].map((name) => ({ name, result: 'failed', error: refusalOf(name, envsDir) }));
  if (options.json) process.stdout.write(`${JSON.stringify({ envsDir, plugins })}\n`);
  for (const { error } of plugins) problem(error);
  return 1;
}

function refusalOf(name, envsDir) {
  let row;
  try {
    row = rowOf(envsDir, name);
  } catch (error) {
    return error.message;
  }
  if (row.owner === null) return `${name} is not running`;
  if (row.owner.kind === 'dead') return `${name} has no owner that could restart it: ally-daemons stop ${name}`;
  return `${name} is not shared: its owner must restart it (process ${ownerText(row.owner)})`;
}

module.exports = { restart };
