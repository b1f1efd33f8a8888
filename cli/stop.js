'use strict';

const { leftovers } = require('./leftovers.js');
const { ownerText } = require('./disk.js');
const { rowOf } = require('./plugins.js');
const { oneLine, problem } = require('./problems.js');

/** Each plugin for itself: a failure of one does not keep the others from being stopped. */
async function stop({ operands, options, envsDir }) {
  let ending;
  const ends = () => {
    ending ??= leftovers(envsDir, { signals: true });
    return ending;
  };
  const outcomes = await Promise.all([...new Set(operands)].map((name) => stopOne(name, { envsDir, force: options.force, ends })));
  if (options.json) process.stdout.write(`${JSON.stringify({ envsDir, plugins: outcomes })}\n`);
  for (const { name, result, pids, error } of outcomes) {
    if (error !== null) problem(error);
    else if (!options.json)
      process.stdout.write(`${oneLine(name)}: ${result === 'stopped' ? `stopped${withPids(pids)}` : 'was stopped already'}\n`);
  }
  return outcomes.some(({ error }) => error !== null) ? 1 : 0;
}

const withPids = (pids) => (pids.length === 0 ? '' : ` (pid ${pids.join(', ')})`);

async function stopOne(name, { envsDir, force, ends }) {
  const outcome = (result, pids, error = null) => ({ name, result, pids, error });
  let pids = [];
  try {
    const row = rowOf(envsDir, name);
    const refusal = refusalOf(row, force);
    if (refusal !== undefined) return outcome('failed', [], refusal);
    if (row.owner?.kind === 'process') {
      await ends().force(name);
      return outcome('stopped', row.pid === null ? [] : [row.pid]);
    }
    pids = row.orphans;
    await ends().end(name);
    // Only what was proven to be an orphan was signalled.
    const unproven = row.doubtful.filter(exists);
    if (unproven.length > 0)
      return outcome('failed', pids, `${name}: the origin of pid ${unproven.join(', ')} is not proven, so it goes on`);
    return outcome(pids.length > 0 || row.owner !== null ? 'stopped' : 'already stopped', pids);
  } catch (error) {
    return outcome('failed', pids, sentenceOf(name, error));
  }
}

function exists(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Why the daemon must be left alone. */
function refusalOf({ name, owner, problem: unreadable }, force) {
  if (unreadable !== null) return `${name}: ${oneLine(unreadable)}`;
  if (owner?.kind === 'elsewhere') return `${name} is held by process ${ownerText(owner)}, which can't be seen from here`;
  if (owner?.kind !== 'process' || force) return undefined;
  return `${name} has a living owner, process ${ownerText(owner)}: stop it there, or with --force`;
}

function sentenceOf(name, error) {
  switch (error.code) {
    case 'ERR_OWNED_ELSEWHERE':
      return error.pid ? `${name} was left alone: process ${error.pid} holds it` : `${name} was left alone: another process holds it`;
    case undefined:
      return error.message;
    default:
      // The addon's sentence for a start, of which only the reason fits.
      return `${name}: ${error.message.replace(/^Failed to (start|stop) background process '.*?': /s, '')}`;
  }
}

module.exports = { sentenceOf, stop };
