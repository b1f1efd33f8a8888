'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { NativeManager } = require('../../native.js');
const { withoutAddon } = require('../../lib/without-addon.js');
const { copyPackage } = require('../helpers/package-copy');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const target = `${process.platform}-${process.arch}`;

/** Runs `body` in a program of its own with this copy of the package. The program must end by itself; `say` reports a value. */
function inProgram(copy, body, before = '') {
  const code = `
    const said = [];
    const say = (value) => said.push(value);
    const tell = (error) => ({ ...error, message: error.message, isError: error instanceof Error });
    process.on('exit', () => process.stdout.write(JSON.stringify(said)));
    ${before}
    const ally = require(${JSON.stringify(copy)});
    const envsDir = ${JSON.stringify(world.envsDir)};
    const config = ${JSON.stringify(world.config())};
    (async () => { ${body} })();`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8', timeout: 20_000 });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  return JSON.parse(stdout);
}

function withoutPrebuilt() {
  const { copy } = copyPackage(world);
  fs.rmSync(path.join(copy, 'prebuilt'), { recursive: true });
  return copy;
}

test('ERR_UNSUPPORTED: startProcess names the platform, the places that were searched and the cure', () => {
  const copy = withoutPrebuilt();
  const [error] = inProgram(
    copy,
    'const manager = new ally.BackgroundProcessManager({ envsDir }); await manager.startProcess(config).catch((error) => say(tell(error)));',
  );
  const addon = path.join(copy, 'prebuilt', target, 'ally.node');
  expect(error).toMatchObject({ isError: true, code: 'ERR_UNSUPPORTED', pluginName: 'plugin', path: addon });
  expect(error.message).toMatch(/^Failed to start background process 'plugin': no addon for /);
  for (const part of [
    target,
    addon,
    `@ally/background-process-manager-${target}${process.platform === 'linux' ? '-gnu' : ''}`,
    'Install the package again',
    'npm run build',
  ]) {
    expect(error.message).toContain(part);
  }
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test('ERR_UNSUPPORTED: an addon that the system refuses is named with the reason', () => {
  const { copy } = copyPackage(world);
  fs.writeFileSync(path.join(copy, 'prebuilt', target, 'ally.node'), 'no addon\n');
  const [error] = inProgram(copy, 'await new ally.BackgroundProcessManager({ envsDir }).startProcess(config).catch((e) => say(tell(e)));');
  expect(error.code).toBe('ERR_UNSUPPORTED');
  expect(error.message).toMatch(/ally\.node: .*(invalid ELF header|file too short|not valid mach-o|slice)/);
});

test('ERR_UNSUPPORTED: on Windows startProcess names the supported platforms', () => {
  const windows = "Object.defineProperty(process, 'platform', { value: 'win32' });";
  const [error] = inProgram(
    withoutPrebuilt(),
    'await new ally.BackgroundProcessManager({ envsDir }).startProcess(config).catch((error) => say(tell(error)));',
    windows,
  );
  expect(error).toMatchObject({ isError: true, code: 'ERR_UNSUPPORTED', pluginName: 'plugin' });
  expect(error.message).toContain(`win32-${process.arch} is not supported. Run the program on one of linux-x64, `);
});

test('without an addon: getters answer as for an unknown plugin, and stops resolve', () => {
  const [told] = inProgram(
    withoutPrebuilt(),
    `const manager = new ally.BackgroundProcessManager({ envsDir, logger: console, onOwnerDeath: 'keep' });
     manager.on('output', () => {}).unref().ref();
     await manager.startProcess(config).catch(() => {});
     say({
       getters: [manager.isRunning('plugin'), manager.getState('plugin'), manager.getPid('plugin'), manager.getProcessInfo('plugin')],
       lists: [manager.listProcesses(), manager.getOutput('plugin'), manager.forgetProcess('plugin')],
       stops: [await manager.stopProcess('plugin'), await manager.stopAllProcesses(), await manager[Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]()],
       restart: await manager.restartProcess('plugin').catch(tell),
       logs: await (async () => manager.logs('plugin'))().catch(tell),
       wrong: await manager.stopProcess(7).catch(tell),
       aborted: await manager.startProcess(config, { signal: AbortSignal.abort(new Error('mine')) }).catch((error) => error.message),
       nothing: await manager.startProcess(undefined).catch(tell),
     });`,
  );
  expect(told).toEqual({
    getters: [false, null, null, null],
    lists: [[], [], false],
    stops: [null, null, null],
    restart: { isError: true, code: 'ERR_NOT_FOUND', message: "Process 'plugin' is not known to this manager", pluginName: 'plugin' },
    logs: { isError: true, code: 'ERR_NOT_FOUND', message: "Process 'plugin' is not known to this manager", pluginName: 'plugin' },
    wrong: { isError: true, code: 'ERR_INVALID_CONFIG', message: 'Invalid configuration: pluginName must be a string' },
    aborted: 'mine',
    nothing: expect.objectContaining({ code: 'ERR_UNSUPPORTED' }),
  });
});

test('without an addon: constants and configFromManifest work', () => {
  const [told] = inProgram(
    withoutPrebuilt(),
    `const at = { pluginPath: '/plugins/search', envsDir: '/envs' };
     const manifest = { name: 'search', daemon: { command: 'python3', healthcheck: {} } };
     const thrown = (action) => { try { return action(); } catch (error) { return tell(error); } };
     say({
       timeout: ally.PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
       state: ally.ProcessState.RUNNING,
       envs: typeof ally.PLUGIN_ENVS_DIR,
       config: ally.configFromManifest(manifest, at),
       name: thrown(() => ally.configFromManifest({ ...manifest, name: '../evil' }, at)),
       path: thrown(() => ally.configFromManifest(manifest, { pluginPath: 'plugins' })),
       option: thrown(() => new ally.BackgroundProcessManager({ envsDir: 'envs' })),
     });`,
  );
  expect(told).toMatchObject({
    timeout: 30_000,
    state: 'running',
    envs: 'string',
    config: { command: '/envs/search/bin/python3', healthcheck: { interval: 30_000, timeout: 5_000, retries: 3 } },
    name: { isError: true, code: 'ERR_INVALID_CONFIG' },
    path: { isError: true, code: 'ERR_INVALID_CONFIG', pluginName: 'search' },
    option: { isError: true, code: 'ERR_INVALID_CONFIG', message: 'Invalid configuration: envsDir must be an absolute path' },
  });
});

describe('the stand-in of the addon', () => {
  const StandIn = withoutAddon('no addon', '/ally.node');
  // Each function that is no class has them.
  const isOwn = (name) => !['arguments', 'caller'].includes(name);
  const plain = (failure) => Object.fromEntries(['code', 'message', 'pluginName'].map((key) => [key, failure[key] ?? undefined]));

  test('has the methods that the addon has', () => {
    const members = (type) => [...Object.getOwnPropertyNames(type), ...Object.getOwnPropertyNames(type.prototype)].filter(isOwn).sort();
    expect(members(StandIn)).toEqual(members(NativeManager));
  });

  test.each([[''], ['a'], ['.'], ['..'], ['a/b'], ['a\0'], ['é'.repeat(128)], [undefined], [null], [7], [true], [[]], [{}], ['/a']])(
    'has the texts of the addon for the name and the path %p',
    (value) => {
      expect(StandIn.nameProblem(value) ?? null).toBe(NativeManager.nameProblem(value) ?? null);
      expect(StandIn.pathProblem(value) ?? null).toBe(NativeManager.pathProblem(value) ?? null);
    },
  );

  test.each([
    ['field', 'must be', 'plugin'],
    ['a\u001b[2Jb\u202e\n\tc', 'must be', 'x\u001b[31my'],
    ['field', 'must be', ''],
    ['field', 'must be', undefined],
  ])('has the text of ERR_INVALID_CONFIG of the addon: %j', (field, problem, name) => {
    expect(plain(StandIn.invalidConfig(field, problem, name))).toEqual(plain(NativeManager.invalidConfig(field, problem, name)));
  });
});
