'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { SOMEBODY, as, testWith } = require('../helpers/needs');
const { useCommandedOwner, errorWith } = require('../helpers/commanded-owner');
const { alive, identify, signal } = require('../helpers/proc');
const { runsAnew } = require('../helpers/runs-anew');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useRefused } = require('./refused');

const world = useWorld();
const { refused, identity } = useRefused(world);
const { commandedOwner } = useCommandedOwner(world);

const isThere = (file) => fs.lstatSync(file, { throwIfNoEntry: false }) !== undefined;

/** The file of a socket that nobody holds. */
async function deadSocket(file) {
  const program = world.program(['serves.py'], { socketPath: file });
  await until(() => connects(file));
  signal(program, 'SIGKILL');
  await until(() => !alive(program));
  expect(fs.lstatSync(file).isSocket()).toBe(true);
}

test('socketPath: a link to its own socket is replaced after a crash, and removed by the stop', async () => {
  const socketPath = world.path('public.sock');
  const manager = world.manager();
  const config = world.config('plugin', ['serves-through-a-link.py'], { socketPath, restart: { delay: 0 } });
  await manager.startProcess(config);
  const first = identify(manager.getPid('plugin'));
  signal(first, 'SIGKILL');
  // The pid first: between two getters the daemon may crash, and it then has no pid and does not run.
  await until(() => runsAnew(manager, 'plugin', first.pid));
  expect(manager.getProcessInfo('plugin').totalRestarts).toBe(1);
  expect(await connects(socketPath)).toBe(true);
  await manager.stopProcess('plugin');
  expect(isThere(socketPath)).toBe(false);
  expect(fs.lstatSync(`${socketPath}.real`).isSocket()).toBe(true);
  await manager.startProcess(config);
  expect(manager.isRunning('plugin')).toBe(true);
});

test.each([
  ['a dead socket', async (link) => deadSocket(`${link}.target`)],
  ['nothing', (link) => fs.symlinkSync(`${link}.target`, link)],
  [
    'a file below a file',
    (link) => {
      fs.writeFileSync(`${link}.file`, 'precious');
      fs.symlinkSync(`${link}.file/s`, link);
    },
  ],
  ['itself', (link) => fs.symlinkSync(path.basename(link), link)],
])('socketPath: a link that leads to %s is removed, and its target is not', async (_, make) => {
  const link = world.path('link');
  await make(link);
  if (!isThere(link)) fs.symlinkSync(`${link}.target`, link);
  const target = isThere(`${link}.target`) && identity(`${link}.target`);
  const manager = world.manager();
  // This daemon does not unlink its path.
  await manager.startProcess(world.config('plugin', ['binds-without-unlinking.py'], { socketPath: link }));
  expect(fs.lstatSync(link).isSocket()).toBe(true);
  if (target) expect(identity(`${link}.target`)).toEqual(target);
});

test('ERR_SOCKET_IN_USE: a link to a living socket names the process and is left alone', async () => {
  const [link, target] = [world.path('link'), world.path('target')];
  const program = world.program(['serves.py'], { socketPath: target });
  await until(() => connects(target));
  fs.symlinkSync(target, link);
  const before = identity(link);
  const error = await refused(world.manager(), world.config('plugin', undefined, { socketPath: link }));
  expect(error.pid).toBe(program.pid);
  expect(identity(link)).toEqual(before);
  expect(await connects(link)).toBe(true);
});

test('ERR_SOCKET_IN_USE: a link to a socket that is bound and does not listen is left alone', async () => {
  const [link, target] = [world.path('link'), world.path('target')];
  const program = world.program(['never-listens.py'], { socketPath: target });
  await until(() => fs.existsSync(target));
  fs.symlinkSync(target, link);
  const error = await refused(world.manager(), world.config('plugin', undefined, { socketPath: link }));
  expect(error.pid).toBe(program.pid);
  expect(fs.readlinkSync(link)).toBe(target);
});

testWith('another user that can load the package')('ERR_SOCKET_IN_USE: a link that cannot be followed (EACCES) is left alone', async () => {
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  const [link, shut] = [world.path('link'), world.path('shut')];
  fs.mkdirSync(shut, { mode: 0o700 });
  fs.symlinkSync(path.join(shut, 's'), link);
  const owner = commandedOwner({}, { before: as(SOMEBODY) });
  const { error } = await owner.asks('startProcess', world.config('plugin', undefined, { socketPath: link }));
  expect(error).toEqual(errorWith('ERR_SOCKET_IN_USE', `${link} can't be connected to \\(EACCES\\), remove ${link} if nothing uses it`));
  expect(fs.readlinkSync(link)).toBe(path.join(shut, 's'));
});
