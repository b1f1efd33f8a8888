'use strict';

const fs = require('node:fs');
const { spawn } = require('node:child_process');
const { until } = require('./until');

let traces = 0;

/**
 * strace on running threads: `injections` are in force when this resolves, and until `stop`. `follow`: also in the processes
 * that they fork, until execve(2); 'programs': also after it. `file`: only calls about this file count.
 */
async function inject(world, pids, injections, { follow = false, file } = {}) {
  traces += 1;
  const trace = world.path(`trace-${traces}`);
  const names = injections.map((injection) => injection.split(':')[0]).join(',');
  const args = [
    '-o',
    trace,
    ...(follow ? ['-f'] : []),
    ...(follow === true ? ['-b', 'execve'] : []),
    '-e',
    `trace=${names}`,
    ...(file ? ['-P', file] : []),
  ];
  for (const injection of injections) args.push('-e', `inject=${injection}`);
  for (const pid of [pids].flat()) args.push('-p', String(pid));
  const child = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let ended = false;
  const exited = new Promise((resolve) => child.on('exit', resolve)).then(() => (ended = true));
  let messages = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (messages += text));
  const stop = async () => {
    // On SIGINT it detaches.
    if (!ended) child.kill('SIGINT');
    await exited;
  };
  world.finally(stop);
  await until(() => messages.split(' attached').length > [pids].flat().length || ended, 10_000, 'strace attaches');
  if (ended) throw new Error(`strace: ${messages}`);
  const calls = () => (fs.existsSync(trace) ? fs.readFileSync(trace, 'utf8').split('\n').filter(Boolean) : []);
  return { stop, calls, injected: () => calls().filter((line) => line.includes('(INJECTED)')).length };
}

module.exports = { inject };
