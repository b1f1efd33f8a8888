// Two daemons, for the examples beside this file. They end with this process.

import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackgroundProcessManager, configFromManifest } from '../../index.js';

const DAEMON = "require('node:net').createServer((client) => client.end()).listen(process.env.SOCKET_PATH); console.log('listens')";
const folder = mkdtempSync(join(tmpdir(), 'ally-metrics-'));

export const manager = new BackgroundProcessManager({ envsDir: folder });

for (const name of ['search', 'notes']) {
  const manifest = { name, daemon: { command: process.execPath, args: ['-e', DAEMON], healthcheck: { interval: 1_000 } } };
  await manager.startProcess(configFromManifest(manifest, { pluginPath: folder, envsDir: folder }));
}
