'use strict';

const fs = require('node:fs');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify, withEnvironment } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

const files = () => fs.readdirSync(world.folder('plugin')).sort();

testWith('a pid namespace')('ERR_OWNED_ELSEWHERE: an owner in another pid namespace is named at once, and nothing is removed', async () => {
  const inside = commandedOwner({}, { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] });
  expect(await inside.asks('startProcess', config())).toEqual({});
  const note = fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8');
  expect(note).toMatch(/^owner 1 \d+ \d+ [0-9a-f-]{36} pid:\[\d+\]\n$/);
  const before = files();
  // The grace period of this start is what it would wait for a keeper.
  const refusal = failure(world.manager().startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 })));
  const error = await refusal;
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', message: expect.stringContaining('in another container') });
  expect(error.pid).toBeUndefined();
  expect(error.message).toContain('pid namespace');
  expect(files()).toEqual(before);
  expect(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')).toBe(note);
  expect(await connects(world.socket('plugin'))).toBe(true);
  expect((await inside.asks('getState', 'plugin')).value).toBe('running');
  expect(await inside.asks('stopProcess', 'plugin')).toEqual({});
  const manager = world.manager();
  await manager.startProcess(config());
  expect(manager.isRunning('plugin')).toBe(true);
});

testWith('a pid namespace')('ERR_OWNED_ELSEWHERE: a start in another pid namespace removes nothing of the owner outside', async () => {
  const manager = world.manager();
  await manager.startProcess(config());
  const daemon = identify(manager.getPid('plugin'));
  const before = files();
  const inside = commandedOwner({}, { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] });
  const { error } = await inside.asks('startProcess', config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 }));
  expect(error).toEqual(errorWith('ERR_OWNED_ELSEWHERE', 'in another container'));
  expect(files()).toEqual(before);
  expect(alive(daemon)).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

testWith('a pid namespace')("ERR_OWNED_ELSEWHERE: another pid namespace's keeper is neither waited for nor signalled", async () => {
  const inside = commandedOwner({ options: { onOwnerDeath: 'keep' } });
  expect(await inside.asks('startProcess', config())).toEqual({});
  const daemon = identify((await inside.asks('getPid', 'plugin')).value);
  world.killAtEnd(daemon);
  inside.child.kill('SIGKILL');
  await inside.exited;
  await until(() => /^keeper \d+ \d+ \d+ [0-9a-f-]{36} pid:/.test(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')));
  const other = commandedOwner({}, { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] });
  const { error } = await other.asks('startProcess', config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 }));
  expect(error).toEqual(errorWith('ERR_OWNED_ELSEWHERE', 'in another container'));
  expect(alive(daemon)).toBe(true);
  // In its own namespace the daemon is an orphan, and is stopped.
  await world.manager().startProcess(config());
  expect(alive(daemon)).toBe(false);
  expect(withEnvironment(world.dir).some(({ pid }) => pid === daemon.pid)).toBe(false);
});
