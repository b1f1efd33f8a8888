'use strict';

// Runs the usage patterns of the specification, which examples/specification has as they are, each in a program of its own.

const fs = require('node:fs');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { ModuleKind, ScriptTarget, transpileModule } = require('typescript');
const { DAEMONS } = require('../helpers/world');
const { ROOT } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { PYTHON } = require('../helpers/python');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const SOURCES = path.join(ROOT, 'examples', 'specification');

/** The examples as JavaScript, in a folder with this package. Each of `places` is replaced by a path of the test. */
function compile(places = {}) {
  const folder = world.path('program');
  fs.mkdirSync(path.join(folder, 'node_modules', '@ally'), { recursive: true });
  fs.symlinkSync(ROOT, path.join(folder, 'node_modules', '@ally', 'background-process-manager'));
  for (const name of fs.readdirSync(SOURCES).filter((each) => each.endsWith('.ts'))) {
    let text = fs.readFileSync(path.join(SOURCES, name), 'utf8');
    for (const [place, own] of Object.entries(places)) text = text.replaceAll(`'${place}'`, JSON.stringify(own));
    const { outputText } = transpileModule(text, { compilerOptions: { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 } });
    fs.writeFileSync(path.join(folder, name.replace(/ts$/, 'mjs')), outputText);
  }
  return folder;
}

/** Runs a module of that folder with a HOME of its own. `text`: the module; by default one of the examples. */
function run(folder, text, env) {
  const file = path.join(folder, 'run.mjs');
  fs.writeFileSync(file, text);
  const program = spawn(process.execPath, [file], { env: { ...process.env, HOME: world.path('home'), TEST_WORLD: world.dir, ...env } });
  world.programs.push(program);
  const said = { text: '', child: program, code: undefined };
  for (const stream of [program.stdout, program.stderr]) stream.on('data', (data) => (said.text += data));
  program.on('close', (code, by) => (said.code = code ?? by));
  return said;
}

const ended = (said) => until(() => said.code !== undefined, 20_000, 'the program has ended').then(() => said);

/** The plugin of the specification: its daemon, and the plugin's folder in the HOME of the program. */
function plugin(daemon = 'specification.py') {
  fs.copyFileSync(path.join(DAEMONS, daemon), path.join(world.pluginPath, 'daemon.py'));
  return path.join(world.path('home'), '.ally', 'plugin-envs');
}

test.each([
  ['with an environment', true],
  ['with the python3 of the system', false],
])('Basic Usage runs with nothing but its import lines changed: %s', async (_, hasEnvironment) => {
  const envs = plugin();
  const ran = world.path('ran');
  if (hasEnvironment) {
    const bin = path.join(envs, 'search-plugin', 'bin');
    fs.mkdirSync(bin, { recursive: true, mode: 0o700 });
    fs.writeFileSync(path.join(bin, 'python3'), `#!/bin/sh\n: > ${ran}\nexec '${PYTHON}' "$@"\n`, { mode: 0o755 });
  }
  const folder = compile({ '/Users/user/.ally/plugins/search-plugin': world.pluginPath });
  const said = await ended(run(folder, "await import('./basic-usage.mjs'); console.log('done');"));
  expect(said).toMatchObject({ text: 'done\n', code: 0 });
  expect(fs.existsSync(ran)).toBe(hasEnvironment);
  expect(fs.existsSync(path.join(envs, 'search-plugin', 'daemon.sock'))).toBe(false);
  expect(fs.existsSync(path.join(envs, 'search-plugin', 'daemon.lock'))).toBe(true);
});

test('With Environment Variables: the daemon has them, and an absent one is left out', async () => {
  fs.writeFileSync(
    path.join(world.pluginPath, 'server.py'),
    `import os
print(*(f"{name}={os.environ.get(name)}" for name in ("PORT", "API_KEY", "LOG_LEVEL")), flush=True)
import runpy
runpy.run_path(${JSON.stringify(path.join(DAEMONS, 'specification.py'))}, run_name="__main__")
`,
  );
  const folder = compile({ '/path/to/plugin': world.pluginPath, '/path/to/daemon.sock': world.path('daemon.sock') });
  const text = `
    import { BackgroundProcessManager } from '@ally/background-process-manager';
    import { start } from './environment-variables.mjs';
    const manager = new BackgroundProcessManager();
    for (const key of ['secret', undefined]) {
      if (key === undefined) delete process.env.API_KEY;
      else process.env.API_KEY = key;
      await start(manager, ${JSON.stringify(PYTHON)});
      console.log(manager.getOutput('api-server').filter((line) => line.startsWith('PORT')).at(-1));
      await manager.stopProcess('api-server');
    }`;
  const said = await ended(run(folder, text));
  expect(said.text).toBe('PORT=8080 API_KEY=secret LOG_LEVEL=debug\nPORT=8080 API_KEY=None LOG_LEVEL=debug\n');
});

test('Error Handling: the texts that it looks for', async () => {
  plugin();
  fs.writeFileSync(path.join(world.pluginPath, 'silent.py'), 'import time\n\ntime.sleep(60)\n');
  const folder = compile();
  const config = { ...world.config('search-plugin', []), args: ['daemon.py'] };
  const text = `
    import { BackgroundProcessManager } from '@ally/background-process-manager';
    import { start } from './error-handling.mjs';
    const config = ${JSON.stringify(config)};
    const manager = new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} });
    await start(manager, config, 'search-plugin');
    await start(manager, config, 'search-plugin');
    await manager.stopProcess('search-plugin');
    await start(manager, { ...config, args: ['silent.py'], startupTimeout: 200 }, 'search-plugin');
    await start(manager, { ...config, command: '/no/such/python3' }, 'search-plugin');`;
  const said = await ended(run(folder, text));
  const begin = "Failed to start background process 'search-plugin': ";
  expect(said.text.split('\n').map((line) => line.replace(/(?<=PATH|socket: ).*|(?<=not found).*/, ''))).toEqual([
    'Process is already running',
    'Process started but not responding',
    `Last error: Timeout waiting for socket: `,
    `Startup failed: ${begin}ENOENT: program /no/such/python3 not found`,
    `Last error: ENOENT: program /no/such/python3 not found`,
    '',
  ]);
});

test('Application Shutdown: SIGTERM stops the daemons, then the program exits with code 0', async () => {
  plugin();
  const folder = compile();
  const config = { ...world.config('search-plugin', []), args: ['daemon.py'] };
  const text = `
    import { BackgroundProcessManager } from '@ally/background-process-manager';
    import { installCleanup } from './application-shutdown.mjs';
    const manager = new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} });
    installCleanup(manager);
    await manager.startProcess(${JSON.stringify(config)});
    console.log('running');`;
  const said = run(folder, text);
  await until(() => said.text.includes('running'), 20_000);
  const daemon = identify(Number(fs.readFileSync(world.pidFile('search-plugin'), 'utf8')));
  signal(identify(said.child.pid), 'SIGTERM');
  await ended(said);
  expect(said).toMatchObject({ text: 'running\nShutting down...\n', code: 0 });
  expect(alive(daemon)).toBe(false);
  expect(fs.existsSync(world.socket('search-plugin'))).toBe(false);
});

test('PluginLoader Integration: the environment is made, and its python3 runs the daemon', async () => {
  plugin();
  // A virtual environment within milliseconds: python3 -m venv makes a bin/python3 that notes its calls.
  const programs = world.path('programs');
  fs.mkdirSync(programs);
  const own = `#!/bin/sh\necho "$@" >> ${world.path('calls')}\ncase $1 in *.py) exec '${PYTHON}' "$@" ;; esac\n`;
  fs.writeFileSync(path.join(programs, 'own'), own, { mode: 0o755 });
  fs.writeFileSync(path.join(programs, 'python3'), `#!/bin/sh\nmkdir -p "$3/bin" && cp ${programs}/own "$3/bin/python3"\n`, {
    mode: 0o755,
  });
  fs.writeFileSync(path.join(world.pluginPath, 'requirements.txt'), '');
  const manifest = {
    name: 'search-plugin',
    version: '1.0.0',
    runtime: 'python3',
    dependencies: { file: 'requirements.txt' },
    daemon: { command: 'python3', args: ['daemon.py'], healthcheck: { interval: 30000, timeout: 5000, retries: 3 } },
  };
  const text = `
    import { PluginLoader } from './plugin-loader.mjs';
    const loader = new PluginLoader();
    for (const manifest of [${JSON.stringify(manifest)}, { name: 'tools-only' }]) await loader.loadPlugin(manifest, ${JSON.stringify(world.pluginPath)});
    console.log('loaded');
    await loader.shutdown();`;
  const system = process.env.PATH.split(path.delimiter).filter((each) => !fs.existsSync(path.join(each, 'uv')));
  const said = await ended(run(compile(), text, { PATH: [programs, ...system].join(path.delimiter) }));
  expect(said).toMatchObject({ text: 'loaded\n', code: 0 });
  const calls = fs.readFileSync(world.path('calls'), 'utf8').trim().split('\n');
  expect(calls).toEqual([`-m pip install -r ${path.join(world.pluginPath, 'requirements.txt')}`, 'daemon.py']);
});
