import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { PluginLoader } from '../plugin-loader/loader.mjs';

/** Folders of example plugins. */
export const EXAMPLES = ['../plugin-loader/plugins', 'plugins'].map((path) => fileURLToPath(new URL(path, import.meta.url)));
// Shorter than in the manifests, so that each look at the table shows something new.
const HEALTHCHECK = { interval: 1_000, timeout: 500 };
// A limit that `flaky` does not reach in an hour.
const RESTART = { delay: 500, window: { limit: 10_000, period: 3_600_000 } };
const GRACE_PERIOD = 2_000;

/** The daemons of the plugins in some folders, with their files in a temporary folder that is removed when this process ends. */
export class Daemons {
  #folders;
  #loader;
  #manager;
  #lastProbes = new Map();

  constructor(folders) {
    this.#folders = folders;
    const envsDir = mkdtempSync(join(tmpdir(), 'ally-top-'));
    process.on('exit', () => rmSync(envsDir, { recursive: true, force: true }));
    // All run from the beginning: a plugin that waits for its first connection has nothing to show.
    const configure = ({ start, idleTimeout, ...config }) => {
      return { ...config, shutdownGracePeriod: GRACE_PERIOD, restart: RESTART, healthcheck: HEALTHCHECK };
    };
    this.#loader = new PluginLoader({ envsDir, configure });
    this.#manager = this.#loader.backgroundManager;
    this.#manager.on('health', ({ pluginName, healthy, latency }) => {
      this.#lastProbes.set(pluginName, { passed: healthy, latency });
    });
  }

  async start() {
    const found = (await Promise.all(this.#folders.map((folder) => this.#loader.discover(folder)))).flat();
    const hasPython = (await this.#loader.environments.pythonVersion()) !== undefined;
    const plugins = found.filter(({ manifest }) => hasPython || manifest.runtime !== 'python3');
    const starts = plugins.map(({ manifest, pluginPath }) => this.#loader.loadPlugin(manifest, pluginPath));
    // Each start has an end before a failure is reported, so that the stop that follows meets no start that still prepares.
    const failed = (await Promise.allSettled(starts)).find(({ status }) => status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** What `daemonTable` takes, by name. */
  rows() {
    const metrics = this.#manager.getMetrics().map((each) => this.#row(each));
    return metrics.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Whether each running daemon has been sampled and checked. */
  get areMeasured() {
    const rows = this.rows();
    return rows.length > 0 && rows.every(({ cpuPercent, lastProbe }) => cpuPercent !== undefined && lastProbe);
  }

  async stop() {
    await this.#loader.shutdown();
  }

  #row({ pluginName: name, state, restarts, resources }) {
    const info = this.#manager.getProcessInfo(name);
    const { cpuPercent, memory } = resources ?? {};
    return { name, state, restarts, cpuPercent, memory, pid: info?.pid, uptime: info?.uptime, lastProbe: this.#lastProbes.get(name) };
  }
}
