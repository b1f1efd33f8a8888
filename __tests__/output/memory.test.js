'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** In MiB, to each of both streams: of a flood that comes before. */
const WARM = 8;

/** In kB: what a process has of memory, and what it had at most since `forgetPeak`. */
function memory(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1');
  const [now, peak] = ['VmRSS', 'VmHWM'].map((key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)[1]));
  return { now, peak };
}

const forgetPeak = (pid) => fs.writeFileSync(`/proc/${pid}/clear_refs`, '5');

describe('output: a daemon that floods', () => {
  testOnLinux('with 200 MiB costs its owner less than 1 MiB of memory', async () => {
    const owner = world.owner('obeys-commands.js', {}, { ipc: true });
    async function flood(name, mib) {
      const marker = world.path(`flooded-${name}`);
      expect(await owner.asks('startProcess', world.config(name, ['floods.py', mib, marker]))).toEqual({});
      const before = memory(owner.pid).now;
      forgetPeak(owner.pid);
      fs.writeFileSync(`${marker}.go1`, '');
      await until(() => fs.existsSync(`${marker}.1`), 20_000);
      return memory(owner.pid).peak - before;
    }
    await flood('warm', WARM);
    expect(await flood('plugin', 100)).toBeLessThan(1_024);
    expect((await owner.asks('getOutput', 'plugin', 2)).value).toEqual(Array(2).fill('f'.repeat(127)));
  });

  testOnLinux('costs an owner that listens, and whose event loop is blocked, no more than the bounded queue', async () => {
    const floods = { warm: WARM, plugin: 24 };
    const markers = Object.keys(floods).map((name) => world.path(`flooded-${name}`));
    const configs = Object.entries(floods).map(([name, mib], index) => world.config(name, ['floods.py', mib, markers[index]]));
    // A young generation that is small: otherwise its size is a matter of the moment, several MB of it.
    const owner = world.owner('blocks-in-flood.js', { configs, markers }, { flags: ['--max-semi-space-size=1'] });
    const [, grown] = await owner.says('grown', 25_000);
    expect(grown).toBeLessThan(4 * 1024);
    expect(await owner.says('lines')).toBeGreaterThan(1_000);
  });
});
