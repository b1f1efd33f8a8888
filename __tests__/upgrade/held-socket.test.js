'use strict';

// upgradeProcess with socket 'manager': each generation has a socket of its own.

const fs = require('node:fs');
const net = require('node:net');
const { ask } = require('../helpers/ask');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();

const named = (...args) => script('serves-descriptor-3.py', ...args);
const config = (how = [], changes = {}) =>
  world.config('plugin', ['serves-descriptor-3.py', 'one', ...how], { socket: 'manager', ...changes });
const asks = () => ask(world.socket('plugin'));
const sockets = () =>
  fs
    .readdirSync(world.folder('plugin'))
    .filter((name) => /sock/.test(name))
    .sort();

async function started(how, changes) {
  const manager = world.manager();
  await manager.startProcess(config(how, changes));
  return manager;
}

test('upgradeProcess: the new generation takes over the path, and the names of its socket are those of the old one', async () => {
  const manager = await started();
  const events = record(manager);
  const old = identify(manager.getPid('plugin'));
  const names = sockets();
  await manager.upgradeProcess('plugin', { args: named('two') });
  expect(alive(old)).toBe(false);
  expect(await asks()).toBe(`two ${manager.getPid('plugin')}\n`);
  expect(sockets()).toEqual(names);
  expect(events.states('plugin')).toEqual([]);
  expect(events.of('exit')).toEqual([expect.objectContaining({ pid: old.pid, reason: 'upgraded' })]);
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
  expect(sockets()).toEqual([]);
});

test('upgradeProcess: refuses and loses no connection, ten times in a row', async () => {
  const manager = await started(['drains']);
  const counts = { refused: 0, lost: 0, answered: 0 };
  let asking = true;
  const clients = Array.from({ length: 8 }, async () => {
    while (asking) {
      const answer = await asks().catch(() => undefined);
      if (answer === undefined) counts.refused += 1;
      else if (answer === '') counts.lost += 1;
      else counts.answered += 1;
    }
  });
  for (let turn = 1; turn <= 10; turn++) await manager.upgradeProcess('plugin', { args: named(`turn-${turn}`, 'drains') });
  asking = false;
  await Promise.all(clients);
  expect(counts).toMatchObject({ refused: 0, lost: 0 });
  expect(counts.answered).toBeGreaterThan(20);
  expect(await asks()).toContain('turn-10 ');
});

test('ERR_UPGRADE: the old generation serves on with its socket', async () => {
  const manager = await started();
  const pid = manager.getPid('plugin');
  const { ino } = fs.statSync(world.socket('plugin'));
  const error = await failure(manager.upgradeProcess('plugin', { args: named('two', 'dies') }));
  expect(error).toMatchObject({ code: 'ERR_UPGRADE', exitCode: 3 });
  expect(await asks()).toBe(`one ${pid}\n`);
  expect(fs.statSync(world.socket('plugin')).ino).toBe(ino);
  expect(sockets()).toEqual(['daemon.sock', 'daemon.sock.held']);
});

testOnLinux('upgradeProcess: the old generation works off its queue; what a hung one leaves reads end of file', async () => {
  const manager = await started();
  const frozen = identify(manager.getPid('plugin'));
  signal(frozen, 'SIGSTOP');
  const waiting = asks();
  const closed = new Promise((resolve) => net.connect(world.socket('plugin')).resume().once('close', resolve));
  await manager.upgradeProcess('plugin', { args: named('two') });
  expect(await waiting).toBe('');
  await closed;
  expect(await asks()).toMatch(/^two /);
});

test('upgradeProcess: a crash after it keeps the new socket', async () => {
  const manager = await started([], { restart: { delay: 0 } });
  await manager.upgradeProcess('plugin', { args: named('two') });
  const former = identify(manager.getPid('plugin'));
  signal(former, 'SIGKILL');
  await until(() => !alive(former));
  expect(await asks()).toMatch(/^two /);
  await until(() => manager.isRunning('plugin'));
  await manager.upgradeProcess('plugin', { args: named('three') });
  expect(await asks()).toMatch(/^three /);
});

test("upgradeProcess: from socket 'daemon' to 'manager' and back stops the old one first", async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['answers-its-name.py', 'zero']));
  await manager.upgradeProcess('plugin', { socket: 'manager', args: named('one') });
  expect(await asks()).toMatch(/^one /);
  await manager.upgradeProcess('plugin', { socket: 'daemon', args: script('answers-its-name.py', 'two') });
  expect(await asks()).toMatch(/^two /);
  expect(sockets()).toEqual(['daemon.sock']);
});

test("start 'onConnect': a running daemon is upgraded, and is armed again when it is idle", async () => {
  const manager = world.manager();
  await manager.startProcess(config([], { start: 'onConnect', idleTimeout: 300 }));
  expect(await asks()).toMatch(/^one /);
  await manager.whenRunning('plugin');
  await manager.upgradeProcess('plugin', { args: named('two') });
  await until(() => manager.getProcessInfo('plugin').armed === true);
  expect(await asks()).toMatch(/^two /);
});
