// A daemon that writes lines of 100 bytes as fast as they are read.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { forgetPeak, resident, residentPeak } from '../../__tests__/helpers/proc.js';
import * as byhand from '../lib/byhand.mjs';
import { sleep } from '../../__tests__/helpers/until.js';
import { loopTime } from '../lib/loop.mjs';
import { assert } from '../lib/trial.mjs';

export default {
  name: 'output',
  title: 'Captured output, lines of 100 bytes',
  rounds: { quick: 3, full: 7 },
  contestants: {
    ally: 'ally',
    watched: "ally, 'output' listener and logger",
    byhand: "child_process, 'data' listener",
    readline: 'child_process, readline',
    limit: 'cat > /dev/null',
  },
  metrics: {
    speed: { label: 'written', unit: 'MB/s' },
    loop: { label: 'loop busy', unit: 'ms' },
    cpu: { label: 'CPU of the reader', unit: 'ms' },
    growth: { label: 'memory of the owner: peak − before', unit: 'MB' },
  },

  async run(trial, contestant) {
    const size = trial.quick ? 128 : 512;
    const { go, end } = await contestants[contestant](trial, String(size));
    // The work after the start is done by then.
    await sleep(300);
    forgetPeak(process.pid);
    const before = resident(process.pid);
    const cpuBefore = process.cpuUsage();
    const { busy } = await loopTime(async () => {
      await go();
      // Polled rarely, because each poll costs loop time.
      while (trial.stamps('d').at(-1)?.word !== 'done') await sleep(50);
      // Queued output events count too.
      await sleep(100);
    });
    const { user, system } = process.cpuUsage(cpuBefore);
    const growth = ((residentPeak(process.pid) - before) * 1024) / 1e6;
    await end();
    const at = (word) => trial.stamps('d').find((stamp) => stamp.word === word).at;
    const result = { speed: [(size * 2 ** 20) / 1e3 / (at('done') - at('begin'))] };
    return contestant === 'limit' ? result : { ...result, loop: [busy], cpu: [(user + system) / 1e3], growth: [growth] };
  },
};

const contestants = {
  ally: (trial, size) => managed(trial, size, false),
  watched: (trial, size) => managed(trial, size, true),

  async byhand(trial, size) {
    const child = byhand.start(trial, 'd', ['--flood', size]);
    let bytes = 0;
    let last;
    child.stdout.on('data', (data) => {
      bytes += data.length;
      last = data;
    });
    await trial.stamped('d', 'listen');
    return {
      go: () => child.kill('SIGUSR1'),
      async end() {
        assert(bytes === Math.trunc((size * 2 ** 20) / 100) * 100 && last.includes('the end'), 'every byte arrived');
        await byhand.stop(child);
      },
    };
  },

  /** Lines without a manager. */
  async readline(trial, size) {
    const child = byhand.start(trial, 'd', ['--flood', size]);
    let lines = 0;
    let last;
    const reader = createInterface({ input: child.stdout, crlfDelay: Infinity }).on('line', (line) => {
      lines++;
      last = line;
    });
    await trial.stamped('d', 'listen');
    return {
      go: () => child.kill('SIGUSR1'),
      async end() {
        assert(lines === Math.trunc((size * 2 ** 20) / 100) && last.startsWith('the end'), 'every line arrived');
        reader.close();
        await byhand.stop(child);
      },
    };
  },

  limit(trial, size) {
    const { SOCKET_PATH: _, ...env } = trial.env('d');
    return {
      go: () => byhand.ended(spawn('sh', ['-c', '"$0" --flood "$1" | cat > /dev/null', trial.daemon, size], { env, stdio: 'ignore' })),
      end() {},
    };
  },
};

async function managed(trial, size, watched) {
  const manager = trial.manager({ watched });
  await manager.startProcess(trial.config('d', { args: ['--flood', size] }));
  return {
    go: () => process.kill(manager.getPid('d'), 'SIGUSR1'),
    async end() {
      const lines = manager.getOutput('d');
      assert(
        lines.length === 1_000 && lines.at(-1).startsWith('the end') && lines.every((line) => line.length === 99),
        'the last lines were kept',
      );
      if (watched) assert(manager.received.events > 1_000 && manager.received.logEntries > 1_000, 'lines were events and log entries');
      assert(manager.isRunning('d'), 'it still runs');
      await manager.stopAllProcesses();
    },
  };
}
