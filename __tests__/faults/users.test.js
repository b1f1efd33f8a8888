'use strict';

const fs = require('node:fs');
const { between, errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { ANOTHER, SOMEBODY, as, testWith } = require('../helpers/needs');
const { alive, identify, signal, uid } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop } = useCommandedOwner(world);

/** The daemon changes its user by a setuid program, as sudo is one, so its owner's user cannot signal it. */
async function changed() {
  const change = world.path('setpriv');
  fs.copyFileSync('/usr/bin/setpriv', change);
  fs.chmodSync(change, 0o4755);
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  const [, ...words] = as(ANOTHER);
  const serve = `const net = require('net'); process.umask(0); net.createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH); setTimeout(() => {}, 60_000)`;
  const owner = commandedOwner({}, { before: as(SOMEBODY) });
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', [], {
        command: change,
        args: [...words, process.execPath, '-e', serve],
        socketPath: world.path('s'),
        shutdownGracePeriod: 50,
      }),
    ),
  ).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  world.killAtEnd(daemon);
  expect(uid(daemon.pid)).toBe(Number(ANOTHER));
  return { owner, daemon, serve };
}

testWith('root', 'another user that can load the package')(
  'ERR_STOP_FAILED: names a daemon that changed its user, and the name is free once it is gone',
  async () => {
    const { owner, daemon, serve } = await changed();
    const { error } = await owner.asks('stopProcess', 'plugin');
    expect(error).toEqual(errorWith('ERR_STOP_FAILED', String(daemon.pid)));
    expect((await owner.asks('getState', 'plugin')).value).toBe('error');
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
    signal(daemon, 'SIGKILL');
    // Not the pid file: the keeper removes it before it reports to the owner that the tree is gone.
    await until(async () => (await owner.asks('getPid', 'plugin')).value === undefined, 10_000, 'the owner knows that the daemon is gone');
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
    fs.rmSync(world.path('s'), { force: true });
    await expectStartAndStop(owner, 'plugin', { socketPath: world.path('t'), command: process.execPath, args: ['-e', serve] });
  },
);

testWith('root', 'another user that can load the package')(
  'killed keeper: its daemon that changed its user does not hinder other plugins',
  async () => {
    const { owner, daemon, serve } = await changed();
    const start = (name) =>
      owner.asks(
        'startProcess',
        config(name, [], {
          command: process.execPath,
          args: ['-e', serve],
          socketPath: world.path(`${name}.s`),
          restart: { delay: 0 },
        }),
      );
    expect(await start('other')).toEqual({});
    const other = identify((await owner.asks('getPid', 'other')).value);

    // A setuid program has no parent-death signal, and the guardian cannot signal it either.
    signal(between(owner, daemon)[0], 'SIGKILL');
    const info = async () => (await owner.asks('getProcessInfo', 'plugin')).value;
    await until(async () => (await info()).lastError?.includes(String(daemon.pid)), 15_000, 'lastError names the daemon');
    // The restart waits for the end of the old tree.
    expect((await info()).state).toBe('starting');
    signal(between(owner, other)[0], 'SIGKILL');
    await until(() => !alive(other));
    await owner.asks('reached', 'other', 'running');
    expect(alive(daemon)).toBe(true);

    signal(daemon, 'SIGKILL');
    await owner.asks('reached', 'plugin', 'running');
    // Its successor has changed its user as well, so only root can end it.
    const successor = identify((await owner.asks('getPid', 'plugin')).value);
    const stopped = owner.asks('stopProcess', 'plugin');
    await until(async () => (await info()).state === 'stopping');
    signal(successor, 'SIGKILL');
    expect(await stopped).toEqual({});
  },
);

testWith('root', 'another user that can load the package')('credentials: a daemon has those that its owner has at the start', async () => {
  fs.chmodSync(world.dir, 0o777);
  fs.chmodSync(world.pluginPath, 0o777);
  fs.mkdirSync(world.envsDir, { mode: 0o755 });
  fs.chownSync(world.makeFolder('second'), Number(SOMEBODY), Number(SOMEBODY));
  const owner = commandedOwner();
  const lasts = (name) => config(name, [], { command: '/bin/sh', args: ['-c', 'sleep 60'], socketPath: world.path(`${name}.sock`) });
  const user = async (name) => {
    const start = owner.asks('startProcess', lasts(name));
    const pid = await until(async () => (await owner.asks('getPid', name)).value);
    return { start, user: uid(pid) };
  };
  const first = await user('first');
  expect(first.user).toBe(0);
  expect(await owner.asks('stopProcess', 'first')).toEqual({});
  await first.start;
  await owner.asks('become', Number(SOMEBODY));
  const second = await user('second');
  expect(second.user).toBe(Number(SOMEBODY));
  expect(await owner.asks('stopProcess', 'second')).toEqual({});
  await second.start;
});
