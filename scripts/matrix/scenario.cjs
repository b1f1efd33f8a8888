'use strict';

// What each runtime must be able to do with the installed package. Plain enough for Node.js 18, Bun and Deno. Prints a line for each
// step that holds. `owner`: starts a daemon, prints both pids, and waits to be killed.

const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const { BackgroundProcessManager } = require('@ally/background-process-manager');

/** The arguments with which the runtime runs this program: `run -A scenario.cjs` of Deno, none of a single-file program. */
const SELF = JSON.parse(process.env.MATRIX_SELF);
const ownerAt = process.argv.indexOf('owner');
/** The owner that is killed has that of the process which removes it. */
const envsDir = ownerAt === -1 ? fs.mkdtempSync(path.join(os.tmpdir(), 'ally-')) : process.argv[ownerAt + 1];
// Of a single-file program, which can't execute a guardian inside itself.
const manager = new BackgroundProcessManager({ envsDir, guardianPath: process.env.MATRIX_GUARDIAN });

const socketOf = (pluginName) => path.join(envsDir, pluginName, 'daemon.sock');
const config = (pluginName, ...args) => ({
  pluginName,
  pluginPath: process.cwd(),
  command: 'python3',
  args: ['-S', '-E', '-B', 'daemon.py', ...args],
  socketPath: socketOf(pluginName),
  startupTimeout: 20_000,
  shutdownGracePeriod: 2_000,
  restart: { delay: 50, maxAttempts: 5 },
});

const isAlive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

async function until(condition, what) {
  for (let end = Date.now() + 20_000; !condition(); ) {
    if (Date.now() > end) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function greeting(file) {
  const client = net.connect(file);
  let text = '';
  for await (const chunk of client) text += chunk;
  return text;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

const seen = { states: [], output: [] };
manager.on('stateChange', ({ pluginName, to }) => seen.states.push(`${pluginName} ${to}`));
manager.on('output', ({ pluginName, line }) => seen.output.push(`${pluginName} ${line}`));

const steps = {
  async start() {
    await manager.startProcess({ ...config('a'), healthcheck: { interval: 200, timeout: 200, retries: 2, probe: { type: 'accept' } } });
    assert.equal(manager.getState('a'), 'running');
  },
  async accept() {
    assert.equal(await greeting(socketOf('a')), 'hello\n');
  },
  async output() {
    await until(() => manager.getOutput('a').includes('daemon serves'), 'getOutput');
  },
  async events() {
    await until(() => seen.output.includes('a daemon serves'), "event 'output'");
    assert.deepEqual(seen.states, ['a starting', 'a running']);
  },
  async 'kill -9 and restart'() {
    await restartAfter('SIGKILL', 'crashed');
  },
  async hang() {
    await restartAfter('SIGSTOP', 'unhealthy');
  },
  async 'four errors'() {
    // One after another, because each has the same name.
    const starts = [
      { ...config('b'), command: '/nonexistent/program' },
      config('b', 'exits'),
      { ...config('b', 'waits'), startupTimeout: 300 },
      { ...config('b'), startupTimeout: -1 },
    ];
    const found = [];
    for (const start of starts) found.push((await failure(manager.startProcess(start))).code);
    assert.deepEqual(found, ['ERR_SPAWN', 'ERR_STARTUP_EXIT', 'ERR_STARTUP_TIMEOUT', 'ERR_INVALID_CONFIG']);
  },
  async abort() {
    const controller = new AbortController();
    const start = failure(manager.startProcess(config('c', 'waits'), { signal: controller.signal }));
    await until(() => manager.getPid('c') > 0, 'a pid');
    const pid = manager.getPid('c');
    controller.abort();
    assert.equal((await start).name, 'AbortError');
    await until(() => !isAlive(pid), 'the end of the aborted daemon');
  },
  async stop() {
    const pid = manager.getPid('a');
    await manager.stopProcess('a');
    assert.deepEqual([isAlive(pid), fs.existsSync(socketOf('a')), manager.getState('a')], [false, false, 'stopped']);
  },
  async "owner's death"() {
    const owner = spawn(process.execPath, [...SELF, 'owner', envsDir], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [text] = await once(owner.stdout, 'data');
    // Not `owner`, which may be a program that runs Node.js: `yarn node`.
    const [ownPid, pid] = JSON.parse(text);
    assert.ok(isAlive(pid));
    process.kill(ownPid, 'SIGKILL');
    await until(() => !isAlive(pid), "the daemon's end");
  },
};

async function restartAfter(signal, reason) {
  const pid = manager.getPid('a');
  const restarted = once(manager, 'restart');
  process.kill(pid, signal);
  const [event] = await restarted;
  assert.equal(event.reason, reason);
  await until(() => manager.getState('a') === 'running' && manager.getPid('a') !== pid, 'RUNNING');
  assert.equal(await greeting(socketOf('a')), 'hello\n');
}

async function main() {
  if (ownerAt !== -1) {
    await manager.startProcess(config('d'));
    console.log(JSON.stringify([process.pid, manager.getPid('d')]));
    return;
  }
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
    } catch (error) {
      console.log(`FAILED ${name}: ${error?.stack}`);
      process.exitCode = 1;
      break;
    }
    console.log(`ok ${name}`);
  }
  await manager.stopAllProcesses();
  fs.rmSync(envsDir, { recursive: true, force: true });
}

main();
