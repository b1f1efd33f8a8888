'use strict';

const fs = require('node:fs');
const { alive, signal } = require('../helpers/proc');
const { testOnLinux } = require('../helpers/needs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { expectWhole, logFiles, wholeLog } = require('./numbered');

const world = useWorld();

testOnLinux("logs.file: with killMode 'group' the lines of a spared process reach the file until the tree ends", async () => {
  const manager = world.manager();
  const [family, file] = [world.path('family'), world.path('plugin.log')];
  const logs = { file, maxSize: 100_000, maxFiles: 10_000 };
  const config = world.config('plugin', ['leads-a-tree.py', family, 'chatty'], { killMode: 'group', shutdownGracePeriod: 300, logs });
  await manager.startProcess(config);
  const { chatty } = await world.tree(family);
  world.finally(() => signal(chatty, 'SIGKILL'));
  const written = () => {
    // The fixture makes it with its first line.
    const count = `${family}.chatty`;
    return fs.existsSync(count) ? Number(fs.readFileSync(count, 'utf8')) : 0;
  };
  await until(() => written() > 300, 10_000, 'it writes');
  const atStop = written();
  await manager.stopProcess('plugin');

  // Its pipe is read on, and what it writes now is none of the daemon's output.
  const before = written();
  await until(() => written() > before + 300, 10_000, 'the spared process writes on');
  expect(alive(chatty)).toBe(true);
  const numbers = wholeLog(file)
    .split('\n')
    .filter(Boolean)
    .map((line) => Number(/^line (\d+) *$/.exec(line)?.[1]));
  expect(numbers).toEqual(numbers.map((_, index) => index));
  expect(numbers.length).toBeGreaterThanOrEqual(atStop);
  expect(numbers.length).toBeLessThan(written() - 200);

  // The next daemon has the file for itself, although the first log process lives on to read.
  for (const { path } of logFiles(file)) fs.rmSync(path);
  const marker = world.path('count');
  await manager.startProcess(world.config('plugin', ['prints-numbered-lines.py', marker], { killMode: 'group', logs }));
  const pid = manager.getPid('plugin');
  await until(() => logFiles(file).length > 3, 10_000, 'the next daemon writes');
  await manager.stopProcess('plugin');
  expectWhole(file, marker, pid);
});

testOnLinux(
  'logs.file: a file that is removed after the stop is not made again, although a spared process keeps the pipes open',
  async () => {
    const manager = world.manager();
    const [family, file, other] = [world.path('family'), world.path('plugin.log'), world.path('other.log')];
    const changes = { killMode: 'group', shutdownGracePeriod: 300, logs: { file } };
    await manager.startProcess(world.config('plugin', ['leads-a-tree.py', family, 'fled'], changes));
    const { fled } = await world.tree(family);
    world.finally(() => signal(fled, 'SIGKILL'));
    await manager.stopProcess('plugin');
    expect(alive(fled)).toBe(true);
    await manager.startProcess(world.config('other', ['serves.py'], { logs: { file: other } }));
    // The file of a daemon that runs is made again, and was removed later.
    for (const removed of [file, other]) fs.unlinkSync(removed);
    await until(() => fs.existsSync(other), 2_000);
    expect(fs.existsSync(file)).toBe(false);
  },
);
