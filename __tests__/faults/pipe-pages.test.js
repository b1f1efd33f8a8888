'use strict';

const fs = require('node:fs');
const { spawn } = require('node:child_process');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { ROOT, as, testOnLinux, testWith } = require('../helpers/needs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

/** A user of no other test, and hardly of another run of this one, because the kernel counts the pages of all pipes of a user. */
const USER = String(55_000 + (process.pid % 4_000));
const PAGE = 4096;
/** The test's own may lie in a folder that this user can't enter. */
const SYSTEM_PYTHON = '/usr/bin/python3';

const capacities = (file) => fs.readFileSync(file, 'utf8').split(' ').map(Number);

testOnLinux('stdout and stderr: pipes of 4 pages, and of 64 for a daemon that fills them', async () => {
  const manager = world.manager();
  const [quiet, flooding] = [world.path('quiet'), world.path('flooding')];
  await manager.startProcess(world.config('quiet', ['reports-its-pipes.py', quiet]));
  await manager.startProcess(world.config('flooding', ['reports-its-pipes.py', flooding, '--flood']));
  expect(capacities(quiet)).toEqual([4 * PAGE, 4 * PAGE]);
  expect(capacities(flooding)).toEqual([64 * PAGE, 4 * PAGE]);
});

testWith(
  'root',
  'another user that can load the package',
  '/usr/bin/python3',
)("pipe-user-pages-soft: 20 daemons fit into 10 daemons' pages of default pipes, and a flood beyond the limit loses no line", async () => {
  const pages = Number(fs.readFileSync('/proc/sys/fs/pipe-user-pages-soft', 'utf8'));
  const user = as(USER);
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  const holder = spawn(
    'prlimit',
    [
      '--nofile=20000',
      ...user,
      SYSTEM_PYTHON,
      '-S',
      '-E',
      '-B',
      `${ROOT}/__tests__/fixtures/daemons/holds-pipes.py`,
      pages,
      10 * 32,
      world.path('held'),
    ].map(String),
    { stdio: 'ignore' },
  );
  world.finally(() => holder.kill('SIGKILL'));
  await until(() => fs.existsSync(world.path('held')));

  const owner = commandedOwner({}, { before: user });
  const names = Array.from({ length: 20 }, (_, index) => `p${index}`);
  const start = (name, ...more) =>
    owner.asks(
      'startProcess',
      config(name, ['reports-its-pipes.py', world.path(`${name}.pipes`), ...more], {
        command: SYSTEM_PYTHON,
        socketPath: world.path(name),
      }),
    );
  for (const name of names) expect(await start(name)).toEqual({});
  for (const name of names) expect([name, ...capacities(world.path(`${name}.pipes`))]).toEqual([name, 4 * PAGE, 4 * PAGE]);

  // Twice as many are beyond the limit. Their pipes are small, and work.
  const further = names.map((name) => `further-${name}`);
  for (const name of further) expect(await start(name)).toEqual({});
  const [last] = further.slice(-1);
  expect(capacities(world.path(`${last}.pipes`))).toEqual([2 * PAGE, 2 * PAGE]);
  expect(await start('flood', '--flood')).toEqual({});
  // Once the last line is there, all are.
  const lines = await until(async () => {
    const { value } = await owner.asks('getOutput', 'flood');
    return value.at(-1) === 'the end' && value;
  });
  expect(lines.slice(0, -1).filter((line) => line !== 'f'.repeat(1023)).length).toBe(0);
  expect(lines.length).toBeGreaterThan(250);
});
