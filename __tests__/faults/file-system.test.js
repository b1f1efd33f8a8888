'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { identify, signal } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, processesBeside, supervisorThread } = useCommandedOwner(world);

/** An owner with a file system of sixteen pages at `envsDir`, in a mount namespace that ends with the owner. */
async function small(order) {
  fs.mkdirSync(world.envsDir, { mode: 0o700 });
  const mount = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@"';
  const owner = commandedOwner(order, { before: ['unshare', '-m', '/bin/sh', '-c', mount, world.envsDir] });
  const filler = path.join(world.envsDir, 'filler');
  return { owner, leave: (pages) => owner.asks('write', filler, (16 - pages) * 4096), clear: () => owner.asks('remove', filler), filler };
}

const outside = () => ({ socketPath: world.path('s') });

testWith('namespaces of its own').each([
  [0, 'daemon.lock'],
  [1, 'daemon.id'],
  [2, 'daemon.pid'],
])('ENOSPC: with %d free pages ERR_IO names %s, and neither a process nor half a file is left', async (pages, name) => {
  const { owner, leave, clear } = await small();
  expect(await leave(pages)).toEqual({});
  const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], outside()));
  expect(error).toEqual(errorWith('ERR_IO', world.folder('plugin'), name, 'ENOSPC'));
  expect(processesBeside(owner)).toEqual([]);
  expect((await owner.asks('list', world.folder('plugin'))).value).toEqual(['daemon.lock']);
  await clear();
  await expectStartAndStop(owner, 'plugin', outside());
});

testWith('namespaces of its own')('EROFS: ERR_IO on a read-only file system, and starts work once it is writable', async () => {
  const { owner } = await small();
  const remount = async (how) => expect(await owner.asks('run', 'mount', '-o', `remount,${how}`, world.envsDir)).toEqual({ value: '' });
  await remount('ro');
  expect((await owner.asks('startProcess', config('plugin', ['serves.py'], outside()))).error).toEqual(
    errorWith('ERR_IO', world.folder('plugin'), 'EROFS'),
  );
  expect(processesBeside(owner)).toEqual([]);
  await remount('rw');
  await expectStartAndStop(owner, 'plugin', outside());
  await remount('ro');
  expect((await owner.asks('startProcess', config('plugin', ['serves.py'], outside()))).error).toEqual(
    errorWith('ERR_IO', 'daemon.lock', 'EROFS'),
  );
  await remount('rw');
  await expectStartAndStop(owner, 'plugin', outside());
});

testWith('namespaces of its own')('EROFS: ERR_IO names the envsDir that cannot be made', async () => {
  const { owner } = await small({ envsDir: path.join(world.envsDir, 'a', 'b') });
  await owner.asks('run', 'mount', '-o', 'remount,ro', world.envsDir);
  expect((await owner.asks('startProcess', config('plugin', ['serves.py'], outside()))).error).toEqual(
    errorWith('ERR_IO', path.join(world.envsDir, 'a', 'b'), 'EROFS'),
  );
});

testWith('strace')('ENOSPC: a restart is tried again and works once there is room', async () => {
  const owner = commandedOwner();
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', ['serves.py'], {
        restart: { delay: 10, backoff: 'constant', maxAttempts: 1_000, window: { limit: 10_000, period: 1_000 } },
      }),
    ),
  ).toEqual({});
  const first = identify((await owner.asks('getPid', 'plugin')).value);
  const fault = await inject(world, await supervisorThread(owner), ['write:error=ENOSPC'], {
    file: path.join(world.folder('plugin'), '.daemon.pid.new'),
  });
  signal(first, 'SIGKILL');
  await until(async () => {
    const { value } = await owner.asks('getProcessInfo', 'plugin');
    return value.restartAttempts >= 3 && value.lastError.includes('ENOSPC');
  });
  await fault.stop();
  await owner.asks('reached', 'plugin', 'running');
  expect(fault.injected()).toBeGreaterThanOrEqual(2);
  const { value: pid } = await owner.asks('getPid', 'plugin');
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect(processesBeside(owner)).toEqual([]);
});
