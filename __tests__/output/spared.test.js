'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { signal } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** The number in a line of the `chatty` process. */
const numberIn = (line) => Number(/line (\d+)/.exec(line)?.[1] ?? -1);

testOnLinux.each(['a stop', 'a crash'])(
  "killMode 'group': lines of a spared process are not output of the next daemon, after %s",
  async (how) => {
    const lines = [];
    const take = (line) => lines.push(numberIn(line));
    const ignore = () => {};
    const manager = world.manager({ logger: { debug: take, info: ignore, warn: ignore, error: ignore } });
    manager.on('output', ({ line }) => take(line));
    const marker = world.path('family');
    const config = world.config('plugin', ['leads-a-tree.py', marker, 'chatty'], {
      killMode: 'group',
      shutdownGracePeriod: 300,
      // Longer than the test: the start below comes first.
      restart: { delay: 60_000, jitter: 0 },
    });
    await manager.startProcess(config);
    const { chatty } = await world.tree(marker);
    world.finally(() => signal(chatty, 'SIGKILL'));
    const written = () => Number(fs.readFileSync(`${marker}.chatty`, 'utf8'));
    const last = () => Math.max(...manager.getOutput('plugin').map(numberIn));
    await until(() => last() >= 0);

    if (how === 'a stop') await manager.stopProcess('plugin');
    else {
      process.kill(manager.getPid('plugin'), 'SIGKILL');
      await until(() => manager.getProcessInfo('plugin').nextRestartAt && manager.getPid('plugin') === undefined);
    }
    // The pipe is read on, so the process still writes.
    let before = written();
    await until(() => written() > before + 300, 10_000, 'the spared process writes on');
    const known = last();
    expect(known).toBeLessThan(written() - 100);
    await until(() => !lines.some((number) => number > known));
    lines.length = 0;

    // A crashed daemon would start another process that prints.
    await manager.startProcess(world.config('plugin', ['serves.py'], { killMode: 'group' }));
    before = written();
    await until(() => written() > before + 300, 10_000, 'the spared process writes on');
    expect(last()).toBe(known);
    await manager.stopProcess('plugin');
    // Events and entries come in order, so none is under way any more.
    expect(lines.filter((number) => number > known)).toEqual([]);
  },
);
