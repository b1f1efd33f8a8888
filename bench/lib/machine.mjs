// The machine of the figures, without its name.

import { readFileSync } from 'node:fs';
import os from 'node:os';

const read = (path) => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
};

export function machine() {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    // Without the suffix of the release, which may contain the name of a machine.
    kernel: `${os.type()} ${/^\d+(\.\d+)*/.exec(os.release())?.[0] ?? 'unknown'}`,
    arch: os.arch(),
    node: process.version,
    // Large pages make a fork cheaper, so they change the figures of child_process.
    transparentHugepages: /\[(\w+)\]/.exec(read('/sys/kernel/mm/transparent_hugepage/enabled') ?? '')?.[1],
    date: new Date().toISOString(),
    loadBefore: Number(os.loadavg()[0].toFixed(2)),
  };
}
