import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { descendants, listProcesses, pidsWithEnvironment, sameProcess } from './processes.mjs';

/** The processes of plugins and manager that were seen, and those of them that still run. */
export class SeenProcesses {
  #seen = [];

  get size() {
    return this.#seen.length;
  }

  /** Notes the tree of a daemon under its plugin's name. Resolves to the number of its processes. */
  async noteDaemon(pluginName, pid) {
    const processes = (await listProcesses()).filter(isAlive);
    const leader = processes.find((each) => each.pid === pid);
    const tree = leader ? [leader, ...descendants(processes, pid)] : [];
    this.#note(tree, pluginName);
    // The other descendants: other plugins' daemons, guardian and keepers, or a program that creates an environment.
    this.#note(descendants(processes, process.pid), undefined);
    return tree.length;
  }

  /** Notes the tree of a shared daemon, and its keeper, guardian and host, which are no descendants of this process. */
  async noteShared(pluginName, pid) {
    await this.noteDaemon(pluginName, pid);
    const processes = await listProcesses();
    const of = (child) => processes.find((each) => each.pid === child?.parent);
    const keeper = of(processes.find((each) => each.pid === pid));
    const guardian = of(keeper);
    this.#note([keeper, guardian, of(guardian)].filter(Boolean), undefined);
  }

  /** The seen processes of this plugin. */
  of(pluginName) {
    return this.#seen.filter((each) => each.pluginName === pluginName);
  }

  /** Those of these processes that still run. */
  async leftOf(processes) {
    const running = (await listProcesses()).filter(isAlive);
    return processes.filter((each) => running.some((other) => sameProcess(each, other)));
  }

  /** Every seen process that still runs, and every descendant of this process, zombies included. */
  async remaining() {
    const children = descendants(await listProcesses(), process.pid);
    const others = await this.leftOf(this.#seen);
    return [...children, ...others.filter((each) => !children.some((child) => sameProcess(each, child)))];
  }

  /** The pids of processes with a path below `dir` in their environment. This finds detached processes that were not seen. */
  async detached(dir) {
    return (await pidsWithEnvironment(dir)).filter((pid) => pid !== process.pid);
  }

  #note(processes, pluginName) {
    for (const each of processes) {
      const known = this.#seen.find((other) => sameProcess(each, other));
      if (known === undefined) this.#seen.push({ ...each, pluginName });
      else known.pluginName ??= pluginName;
    }
  }
}

/** The sockets and `daemon.*` files in the plugins' folders below `dir`. */
export async function runtimeFiles(dir) {
  const entries = await readdir(dir, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => join(dir, entry.name));
  const found = await Promise.all(folders.map(runtimeFilesIn));
  return found.flat();
}

async function runtimeFilesIn(folder) {
  const found = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    // The lock file is never removed: two owners could lock two files of that name.
    const isRecord = name.startsWith('daemon.') && name !== 'daemon.lock';
    if (isRecord || (await lstat(path)).isSocket()) found.push(path);
  }
  return found;
}

function isAlive({ zombie }) {
  return !zombie;
}
