/**
 * One session of the demo: a program with a plugin loader of its own, which shares its daemon with other sessions. It does what
 * the messages of its parent say. Arguments: envsDir, and the folder of the plugin.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ask } from './client.mjs';
import { PluginLoader } from './loader.mjs';

const [envsDir, pluginPath] = process.argv.slice(2);
// All of them run from the beginning: what is shown here is the second start.
const configure = ({ start, idleTimeout, ...config }) => ({ ...config, shared: true });
const loader = new PluginLoader({ envsDir, configure });
const manager = loader.backgroundManager;
const manifest = JSON.parse(await readFile(join(pluginPath, 'plugin.json'), 'utf8'));

const calls = {
  async load() {
    const begin = performance.now();
    await loader.loadPlugin(manifest, pluginPath);
    const { pid, sessions } = manager.getProcessInfo(manifest.name);
    return { took: performance.now() - begin, pid, sessions };
  },
  async request(request) {
    const { config } = manager.getProcessInfo(manifest.name);
    return { answer: await ask(config.socketPath, request), pid: manager.getPid(manifest.name) };
  },
  async leave() {
    await loader.shutdown();
    // Without the channel to its parent nothing keeps this program running.
    setImmediate(() => process.disconnect());
    return {};
  },
};

process.on('message', async ({ call, argument }) => {
  try {
    process.send({ value: await calls[call](argument) });
  } catch (error) {
    process.send({ error: error.message });
  }
});
process.send({ value: { pid: process.pid } });
