'use strict';

// What each test of a test runner does: a daemon is started, asked, killed, restarted and stopped.

const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { BackgroundProcessManager } = require('@ally/background-process-manager');

async function greeting(file) {
  let text = '';
  for await (const chunk of net.connect(file)) text += chunk;
  return text;
}

module.exports = async function supervises() {
  const envsDir = fs.mkdtempSync(path.join(os.tmpdir(), 'ally-'));
  const manager = new BackgroundProcessManager({ envsDir });
  const socketPath = path.join(envsDir, 'a', 'daemon.sock');
  const times = { startupTimeout: 20_000, shutdownGracePeriod: 2_000, restart: { delay: 50 } };
  const command = { command: 'python3', args: ['-S', '-E', '-B', path.join(__dirname, 'daemon.py')] };
  await manager.startProcess({ pluginName: 'a', pluginPath: __dirname, socketPath, ...command, ...times });
  assert.equal(await greeting(socketPath), 'hello\n');
  const restarted = once(manager, 'restart');
  process.kill(manager.getPid('a'), 'SIGKILL');
  await restarted;
  await manager.whenRunning('a');
  assert.equal(await greeting(socketPath), 'hello\n');
  await manager.stopAllProcesses();
  assert.equal(manager.getState('a'), 'stopped');
  fs.rmSync(envsDir, { recursive: true });
};
