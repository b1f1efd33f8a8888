// A daemon that writes lines of 100 bytes as fast as they are taken, into a log file.

import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as byhand from '../lib/byhand.mjs';
import { sleep } from '../../__tests__/helpers/until.js';
import { loopTime } from '../lib/loop.mjs';
import { assert } from '../lib/trial.mjs';

const LINE = 100;
const MIB = 2 ** 20;

export default {
  name: 'logFile',
  title: 'Log file, lines of 100 bytes',
  rounds: { quick: 3, full: 7 },
  contestants: {
    ally: 'ally, one file',
    rotating: 'ally, rotation every 10 MiB',
    byhand: 'child_process, stdout is the file',
    limit: 'cat > FILE',
  },
  metrics: {
    speed: { label: 'written', unit: 'MB/s' },
    loop: { label: 'loop busy for 512 MiB', unit: 'ms' },
  },

  async run(trial, contestant) {
    const size = trial.quick ? 128 : 512;
    const file = join(trial.dir, 'log');
    const { go, end } = await contestants[contestant](trial, String(size), file);
    await sleep(300);
    const { busy } = await loopTime(async () => {
      await go();
      // Polled rarely, because each poll costs loop time.
      while (trial.stamps('d').at(-1)?.word !== 'done') await sleep(50);
    });
    await end();
    const at = (word) => trial.stamps('d').find((stamp) => stamp.word === word).at;
    const result = { speed: [(size * MIB) / 1e3 / (at('done') - at('begin'))] };
    return contestant === 'limit' ? result : { ...result, loop: [(busy * 512) / size] };
  },
};

/** Every byte of the flood is there: its number of whole lines, and the last one. */
function assertWhole(files, size) {
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0);
  assert(bytes === Math.trunc((size * MIB) / LINE) * LINE, `every byte is in the log, not ${bytes}`);
  assert(readFileSync(files[0]).subarray(-LINE).includes('the end'), 'the last line is the last in the log');
}

const contestants = {
  ally: (trial, size, file) => managed(trial, size, { file, maxSize: 2 ** 40 }, 1),
  rotating: (trial, size, file) => managed(trial, size, { file, maxFiles: 60 }, Math.ceil(size / 10)),

  async byhand(trial, size, file) {
    const { openSync } = await import('node:fs');
    const { SOCKET_PATH: _, ...env } = trial.env('d');
    return {
      go: () => byhand.ended(spawn(trial.daemon, ['--flood', size], { env, stdio: ['ignore', openSync(file, 'a'), 'inherit'] })),
      end: () => assertWhole([file], size),
    };
  },

  limit(trial, size, file) {
    const { SOCKET_PATH: _, ...env } = trial.env('d');
    return {
      go: () => byhand.ended(spawn('sh', ['-c', '"$0" --flood "$1" | cat > "$2"', trial.daemon, size, file], { env, stdio: 'ignore' })),
      end: () => assertWhole([file], size),
    };
  },
};

async function managed(trial, size, logs, files) {
  const manager = trial.manager({});
  await manager.startProcess(trial.config('d', { args: ['--flood', size], logs }));
  return {
    go: () => process.kill(manager.getPid('d'), 'SIGUSR1'),
    async end() {
      await manager.stopAllProcesses();
      const names = Array.from({ length: files }, (_, index) => (index === 0 ? logs.file : `${logs.file}.${index}`));
      assertWhole(names, size);
    },
  };
}
