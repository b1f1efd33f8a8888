'use strict';

const { isHost } = require('./host.js');
const { leftovers } = require('./leftovers.js');
const { ownerText } = require('./disk.js');
const { pluginNames, rowOf, rowsOf } = require('./plugins.js');
const { Failed, UsageError, oneLine, problem } = require('./problems.js');
const { print } = require('./stdout.js');

/** Each plugin for itself: a failure of one does not keep the others from being stopped. */
async function stop({ operands, options, envsDir }) {
  let ending;
  const ends = () => {
    ending ??= leftovers(envsDir, { signals: true });
    return ending;
  };
  if (operands.length === 0 && !options.all) throw new UsageError('stop needs NAME..., or --all', 'stop');
  if (operands.length > 0 && options.all) throw new UsageError('stop takes names or --all', 'stop');
  const outcomes = options.all
    ? await stopShared(envsDir, ends)
    : await Promise.all([...new Set(operands)].map((name) => stopOne(name, { envsDir, force: options.force, ends })));
  if (options.json) print(`${JSON.stringify({ envsDir, plugins: outcomes })}\n`);
  else if (outcomes.length === 0) print('there is no shared daemon\n');
  for (const { name, result, pids, error } of outcomes) {
    if (error !== null) problem(error);
    else if (!options.json) print(`${oneLine(name)}: ${result === 'stopped' ? `stopped${withPids(pids)}` : 'was stopped already'}\n`);
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
    if (row.owner?.kind === 'shared' && !(force && row.owner.sessions === null)) {
      await ends().everywhere(name);
      return outcome(['stopped', 'error'].includes(row.state) ? 'already stopped' : 'stopped', row.pid === null ? [] : [row.pid]);
    }
    if (row.owner?.kind === 'process' || row.owner?.kind === 'shared') {
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

/** Ends the host, also one of another version, with all daemons that it has. */
async function stopShared(envsDir, ends) {
  const rows = rowsOf(envsDir, pluginNames(envsDir, { missing: [] }));
  const shared = rows.filter(({ owner }) => owner?.kind === 'shared');
  try {
    await ends().all();
  } catch (error) {
    throw new Failed(sentenceOf('the host', error));
  }
  return [
    ...shared.map(({ name, pid }) => ({ name, result: 'stopped', pids: pid === null ? [] : [pid], error: null })),
    ...rows.filter(({ owner }) => owner?.kind === 'process' && isHost(owner)).map(unreachable),
  ];
}

/** Somebody has removed host.sock or its folder. */
function unreachable({ name, owner }) {
  const error = `${name} was left alone: the socket of its host, process ${owner.pid}, was removed: ally-daemons stop --force ${name}`;
  return { name, result: 'failed', pids: [], error };
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
