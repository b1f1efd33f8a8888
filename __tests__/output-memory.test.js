'use strict';

const fs = require('node:fs');
const { useWorld } = require('./helpers/world');
const { testOnLinux } = require('./helpers/processes');
const { until } = require('./helpers/until');

const world = useWorld();

/** Of an owner that floods before, and of each stream in the flood that counts. */
const [WARM, MIB] = [8, 100];

/** In kB: what a process has of memory, and what it had at most since `forgetPeak`. */
function memory(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1');
  const [now, peak] = ['VmRSS', 'VmHWM'].map((key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)[1]));
  return { now, peak };
}

const forgetPeak = (pid) => fs.writeFileSync(`/proc/${pid}/clear_refs`, '5');

testOnLinux(`output: ${2 * MIB} MiB of a daemon that floods cost its owner no more memory than the bounded tail`, async () => {
  const owner = world.owner('obeys.js', {}, { ipc: true });
  async function flood(name, mib) {
    const marker = world.path(name);
    expect(await owner.asks('startProcess', world.config(name, ['floods.py', mib, marker]))).toEqual({});
    const before = memory(owner.pid).now;
    forgetPeak(owner.pid);
    fs.writeFileSync(`${marker}.go`, '');
    await until(() => fs.existsSync(marker), 20_000);
    return memory(owner.pid).peak - before;
  }
  await flood('warm', WARM);
  expect(await flood('plugin', MIB)).toBeLessThan(3 * 1024);
  // It was read, and to its end.
  expect((await owner.asks('getOutput', 'plugin')).value).toEqual(Array(1_000).fill('f'.repeat(127)));
});
