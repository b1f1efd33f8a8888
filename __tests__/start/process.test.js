'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { testOnLinux } = require('../helpers/needs');
const { signals } = require('../helpers/proc');
const { PYTHON } = require('../helpers/python');
const { useReport } = require('../helpers/report');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { DAEMONS, script } = require('../helpers/world');

const world = useWorld();
const { report } = useReport(world);

test('args: reach the daemon unchanged and without a shell', async () => {
  const odd = ['', ' ', 'a b', '"quoted"', "it's", '$HOME', '`id`', '; exit 1', '*', 'a\nb', '\\', 'Größe 🦀', '--', '-x'];
  const { arguments: seen } = await report(world.manager(), {}, odd);
  expect(seen.slice(1)).toEqual(odd);
});

test('pluginPath: is the working directory', async () => {
  const { cwd } = await report(world.manager());
  expect(cwd).toBe(world.pluginPath);
});

test('pluginPath: a symbolic link is resolved for the working directory', async () => {
  fs.symlinkSync(world.pluginPath, world.path('link'));
  const { cwd } = await report(world.manager(), { pluginPath: world.path('link') });
  expect(cwd).toBe(world.pluginPath);
});

test('POSIX session: the leader has its own session and group, and no terminal', async () => {
  const { pid, pgid, sid, terminal } = await report(world.manager());
  expect({ pgid, sid, terminal }).toEqual({ pgid: pid, sid: pid, terminal: 0 });
});

testOnLinux('descriptors: a daemon has stdin from /dev/null and two outputs, nothing else', async () => {
  const manager = world.manager();
  for (const name of ['one', 'two']) await manager.startProcess(world.config(name));
  const { descriptors } = await report(manager);
  expect(Object.keys(descriptors).sort()).toEqual(['0', '1', '2']);
  expect(descriptors[0]).toBe('/dev/null');
  expect(descriptors[1]).toMatch(/^(pipe|socket):/);
  expect(descriptors[2]).toMatch(/^(pipe|socket):/);
  expect(descriptors[1]).not.toBe(descriptors[2]);
});

testOnLinux('descriptors: a restarted daemon inherits none of the owner either', async () => {
  const manager = world.manager();
  const first = await report(manager, { restart: { delay: 0 } });
  process.kill(first.pid, 'SIGKILL');
  await until(() => manager.getPid('plugin') !== first.pid && manager.isRunning('plugin'));
  const { descriptors } = JSON.parse(fs.readFileSync(world.path('report'), 'utf8'));
  expect(Object.keys(descriptors).sort()).toEqual(['0', '1', '2']);
});

testOnLinux('signals: a daemon starts with none ignored and none blocked', async () => {
  // Node itself ignores SIGPIPE, so that there is something to inherit.
  expect(signals(process.pid, 'SigIgn')).not.toBe(0n);

  const file = world.path('status');
  await world.manager().startProcess(
    world.config('plugin', [], {
      command: path.join(DAEMONS, 'saves-proc-status.sh'),
      args: [file, PYTHON, ...script('serves.py')],
    }),
  );
  const status = fs.readFileSync(file, 'utf8');
  for (const key of ['SigIgn', 'SigBlk'])
    expect([key, BigInt(`0x${new RegExp(`^${key}:\\s*(\\w+)`, 'm').exec(status)[1]}`)]).toEqual([key, 0n]);
});
