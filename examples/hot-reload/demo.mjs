/**
 * Edits a plugin's daemon while four clients ask it without a pause, and counts the requests that failed. One of the edits is a
 * mistake. `npm run hot-reload` runs it. The exit code is 1 if a request failed.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { HotPluginLoader } from './hot-loader.mjs';

const EDITS = 5;
const CLIENTS = 4;

const folder = await mkdtemp(join(tmpdir(), 'ally-hot-'));
const pluginPath = join(folder, 'greeter');
await cp(fileURLToPath(new URL('plugin', import.meta.url)), pluginPath, { recursive: true });
const manifest = JSON.parse(await readFile(join(pluginPath, 'plugin.json'), 'utf8'));
const daemon = join(pluginPath, 'daemon.mjs');
const text = await readFile(daemon, 'utf8');

let tell;
const loader = new HotPluginLoader({ envsDir: join(folder, 'envs'), onUpgrade: (...news) => tell(news) });
await loader.loadPlugin(manifest, pluginPath);
const { socketPath } = loader.backgroundManager.getProcessInfo(manifest.name).config;

const counts = { answered: 0, failed: 0 };
let asking = true;
const clients = Array.from({ length: CLIENTS }, async () => {
  while (asking) {
    const answer = await ask();
    counts[answer.startsWith('hello') ? 'answered' : 'failed'] += 1;
  }
});

/** Writes the file, and waits for the upgrade that follows. */
async function edit(newText) {
  const upgraded = new Promise((resolve) => (tell = resolve));
  await writeFile(daemon, newText);
  const [, files, error] = await upgraded;
  const outcome = error ? `${error.code}, the old one serves on` : `pid ${loader.backgroundManager.getPid(manifest.name)}`;
  console.log(`${files.join(', ')} changed: ${outcome}: ${(await ask()).trim()}`);
}

for (let version = 2; version <= EDITS; version += 1) await edit(text.replace('hello 1', `hello ${version}`));
await edit(`${text}\nthis is no JavaScript`);
await edit(text.replace('hello 1', 'hello again'));

asking = false;
await Promise.all(clients);
await loader.shutdown();
await rm(folder, { recursive: true });
console.log(`${counts.answered} requests answered, ${counts.failed} failed`);
process.exitCode = counts.failed > 0 || counts.answered === 0 ? 1 : 0;

/** What the daemon answers. Empty if the request fails. */
function ask() {
  return new Promise((resolve) => {
    let answer = '';
    const client = connect(socketPath);
    client.setEncoding('utf8').on('data', (part) => (answer += part));
    client.on('error', () => {}).once('close', () => resolve(answer));
  });
}
