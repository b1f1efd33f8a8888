import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { descendants, listProcesses, pidsWithEnvironment, sameProcess } from './processes.mjs';

/** Writes down every process that a plugin or the manager was seen to have, and tells which of them are left. */
export class Census {
  #seen = [];

  get size() {
    return this.#seen.length;
  }

  /** Notes a daemon with all that descends from it, under its plugin's name; returns how many these are. */
  async noteDaemon(pluginName, pid) {
    const processes = (await listProcesses()).filter(isAlive);
    const leader = processes.find((each) => each.pid === pid);
    const tree = leader ? [leader, ...descendants(processes, pid)] : [];
    this.#note(tree, pluginName);
    // What else descends from this process: another plugin's, the manager's own, or a program that makes an environment.
    this.#note(descendants(processes, process.pid), undefined);
    return tree.length;
  }

  /** What was seen of this plugin until now. */
  of(pluginName) {
    return this.#seen.filter((each) => each.pluginName === pluginName);
  }

  /** Those that still run. */
  async leftOf(processes) {
    const running = (await listProcesses()).filter(isAlive);
    return processes.filter((each) => running.some((other) => sameProcess(each, other)));
  }

  /** All ever seen that still run, and whatever else this process has for children, zombies included. */
  async remains() {
    const children = descendants(await listProcesses(), process.pid);
    const others = await this.leftOf(this.#seen);
    return [...children, ...others.filter((each) => !children.some((child) => sameProcess(each, child)))];
  }

  /** Pids of processes that were started with a path below `dir` in their environment: what got away unseen. */
  async strays(dir) {
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

/** The sockets, pid files and their like in the plugins' folders below `dir`. */
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
    // The lock file stays on purpose: with a second one, two could hold "the" lock.
    const isDaemons = name.startsWith('daemon.') && name !== 'daemon.lock';
    if (isDaemons || (await lstat(path)).isSocket()) found.push(path);
  }
  return found;
}

function isAlive({ zombie }) {
  return !zombie;
}
