'use strict';

// How native.js finds the addon, and what the error of a start says if there is none.

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { ROOT, testOnLinux, testWith } = require('../helpers/needs');
const { copyPackage } = require('../helpers/package-copy');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const target = `${process.platform}-${process.arch}`;
const libc = { linux: fs.existsSync('/etc/alpine-release') ? '-musl' : '-gnu' }[process.platform] ?? '';
const platformPackage = `@ally/background-process-manager-${target}${libc}`;

/** What a start with this copy of the package says: of the error, or of the state. */
function start(copy, { node = [], before = '', command = [process.execPath], cwd = '/' } = {}) {
  const config = {
    ...world.config(),
    readiness: { type: 'output', pattern: 'ready' },
    command: 'sh',
    args: ['-c', 'echo ready; exec sleep 60'],
  };
  const code = `${before}
    const { BackgroundProcessManager } = require(${JSON.stringify(copy)});
    const manager = new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} });
    const tell = ({ message, code, path, cause }) => ({ message, code, path, cause: cause && { message: cause.message, code: cause.code } });
    manager.startProcess(${JSON.stringify(config)}).then(() => ({ running: manager.getPid('plugin') > 0 }), tell)
      .then(async (said) => { await manager.stopAllProcesses(); console.log(JSON.stringify(said)); });`;
  const [program, ...args] = [...command, ...node, '-e', code];
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8', cwd, timeout: 20_000 });
  expect({ stderr: stderr.replace(/\(node:\d+\) .*Warning.*\n.*\n/, ''), status }).toEqual({ stderr: '', status: 0 });
  return JSON.parse(stdout);
}

/** A node_modules with the package as it is published, without binaries, and, if asked, the platform package. */
function install({ platform = true } = {}) {
  const folder = world.path('node_modules');
  const { copy } = copyPackage(world);
  const root = path.join(folder, '@ally', 'background-process-manager');
  fs.mkdirSync(path.dirname(root), { recursive: true });
  fs.renameSync(path.join(copy, 'prebuilt', target), world.path('binaries'));
  fs.rmSync(path.join(copy, 'prebuilt'), { recursive: true });
  fs.renameSync(copy, root);
  const own = path.join(folder, platformPackage);
  if (platform) {
    fs.renameSync(world.path('binaries'), own);
    fs.copyFileSync(path.join(ROOT, 'scripts', 'platform', 'index.js'), path.join(own, 'index.js'));
  }
  return { root, own };
}

test('loader: the platform package is used where the folder has no prebuilt/', () => {
  const { root } = install();
  expect(start(root)).toEqual({ running: true });
});

/** An ELF file in which the name of the dynamic linker is far from the beginning, as after patchelf. */
function elfWith(interpreter) {
  const [first, far] = [64 + 56, 2 ** 20];
  const bytes = Buffer.alloc(far + interpreter.length + 1);
  bytes.write('\x7fELF\x02\x01', 'latin1');
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(2, 56);
  bytes.writeUInt32LE(1, 64);
  bytes.writeUInt32LE(3, first);
  bytes.writeBigUInt64LE(BigInt(far), first + 8);
  bytes.write(interpreter, far, 'latin1');
  return bytes;
}

testOnLinux('loader: musl is told by the dynamic linker of the program, and takes the package -musl', () => {
  const { root, own } = install();
  fs.writeFileSync(world.path('program'), elfWith('/lib/ld-musl-x86_64.so.1'));
  const before = `
    const fs = require('node:fs');
    const { openSync } = fs;
    fs.openSync = (file, ...rest) => openSync(file === '/proc/self/exe' ? ${JSON.stringify(world.path('program'))} : file, ...rest);`;
  expect(start(root, { before }).message).toContain(`background-process-manager-${target}-musl: `);
  fs.renameSync(own, own.replace(/-gnu$/, '-musl'));
  expect(start(root, { before })).toEqual({ running: true });
});

test('loader: prebuilt/ of a clone comes before the platform package', () => {
  const { root, own } = install();
  fs.cpSync(own, path.join(root, 'prebuilt', target), { recursive: true });
  fs.writeFileSync(path.join(own, 'index.js'), 'throw new Error("the platform package was read")');
  expect(start(root)).toEqual({ running: true });
});

test('loader: each platform has literal requires of its own, which tracers and bundlers read', () => {
  const text = fs.readFileSync(path.join(ROOT, 'native.js'), 'utf8');
  for (const name of ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64']) {
    expect(text).toContain(`require('./prebuilt/${name}/ally.node')`);
    expect(text).toContain(`path.join(__dirname, 'prebuilt/${name}/ally-guardian')`);
    for (const suffix of name.startsWith('linux') ? ['-gnu', '-musl'] : [''])
      expect(text).toContain(`require('@ally/background-process-manager-${name}${suffix}')`);
  }
  expect(text.match(/require\((?!')/g)).toBe(null);
});

test('loader: a package inside app.asar runs the guardian from app.asar.unpacked', () => {
  const { copy } = copyPackage(world);
  const [packed, unpacked] = ['app.asar', 'app.asar.unpacked'].map((name) => world.path(name, 'node_modules', 'package'));
  fs.mkdirSync(path.dirname(packed), { recursive: true });
  fs.mkdirSync(unpacked, { recursive: true });
  fs.renameSync(path.join(copy, 'prebuilt'), path.join(unpacked, 'prebuilt'));
  fs.renameSync(copy, packed);
  expect(start(packed)).toEqual({ running: true });
  // Electron shows the unpacked addon inside the archive.
  fs.cpSync(path.join(unpacked, 'prebuilt'), path.join(packed, 'prebuilt'), { recursive: true });
  fs.rmSync(path.join(packed, 'prebuilt', target, 'ally-guardian'));
  expect(start(packed)).toEqual({ running: true });
});

describe('ERR_UNSUPPORTED says which it is, with the code of the load in cause', () => {
  const expectProblem = (said, { cause, ...parts }) => {
    expect(said.code).toBe('ERR_UNSUPPORTED');
    expect(said.message).toMatch(/^Failed to start background process 'plugin': no addon for /);
    for (const part of Object.values(parts)) expect(said.message).toContain(part);
    expect(said.cause.code).toBe(cause);
  };
  const addonOf = (copy) => path.join(copy, 'prebuilt', target, 'ally.node');

  test('package not installed: the hint about package-lock.json', () => {
    const { root } = install({ platform: false });
    const said = start(root);
    expectProblem(said, {
      reason: `the platform package for ${target} is not installed`,
      place: platformPackage,
      cure: 'remove node_modules and package-lock.json',
      cause: 'MODULE_NOT_FOUND',
    });
    expect(said.path).toBe(addonOf(root));
  });

  test('a clone that is not built', () => {
    const { copy } = copyPackage(world);
    fs.rmSync(path.join(copy, 'prebuilt'), { recursive: true });
    fs.mkdirSync(path.join(copy, 'scripts'));
    fs.writeFileSync(path.join(copy, 'scripts', 'build.mjs'), '');
    expectProblem(start(copy), { reason: 'this clone is not built', cure: 'npm run build', cause: 'MODULE_NOT_FOUND' });
  });

  test('bundled', () => {
    const { root } = install({ platform: false });
    fs.rmSync(path.join(root, 'package.json'));
    const said = start(path.join(root, 'index.js'));
    expectProblem(said, { reason: 'was bundled', cure: 'external', cause: 'MODULE_NOT_FOUND' });
  });

  test.each([
    ['no addon\n'.repeat(100), 'is damaged'],
    ['', 'is damaged'],
  ])('damaged: %j', (text, reason) => {
    const { copy } = copyPackage(world);
    fs.writeFileSync(addonOf(copy), text);
    const said = start(copy);
    expectProblem(said, { reason, file: addonOf(copy), cause: 'ERR_DLOPEN_FAILED' });
    expect(said.path).toBe(addonOf(copy));
  });

  // The words of the dynamic linkers of glibc, musl and macOS, with the error that process.dlopen makes of them.
  test.each([
    ["/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.99' not found (required by FILE)", 'needs glibc 2.99 or later', 'newer system'],
    [
      'Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by FILE)',
      'another C library',
      'on this system',
    ],
    ['libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory', 'another C library', 'on this system'],
    ['Error relocating FILE: __res_init: symbol not found', 'another C library', 'on this system'],
    ['FILE: wrong ELF class: ELFCLASS32', 'another processor', 'on this machine'],
    [
      "dlopen(FILE, 0x0001): tried: (mach-o file, but is an incompatible architecture (have 'x86_64'))",
      'another processor',
      'on this machine',
    ],
    ['FILE: something that nobody has seen', 'the system refuses', 'Install the package again'],
    ['Requires ffi access to "FILE", run again with the --allow-ffi flag', 'Deno was not permitted', '--allow-ffi'],
  ])('%s', (words, reason, cure) => {
    const { copy } = copyPackage(world);
    const message = words.replace('FILE', addonOf(copy));
    const before = `process.dlopen = () => { throw Object.assign(new Error(${JSON.stringify(message)}), { code: 'ERR_DLOPEN_FAILED' }); };`;
    expectProblem(start(copy, { before }), { reason, cure, words: message, cause: 'ERR_DLOPEN_FAILED' });
  });

  test('addons disabled: --no-addons', () => {
    const { copy } = copyPackage(world);
    expectProblem(start(copy, { node: ['--no-addons'] }), {
      reason: 'addons are disabled',
      cure: '--no-addons',
      cause: 'ERR_DLOPEN_DISABLED',
    });
  });

  testWith('namespaces of its own')('noexec', () => {
    const { copy } = copyPackage(world);
    const mount = 'mount --bind "$0" "$0" && mount -o remount,bind,noexec "$0" && exec "$@"';
    const command = ['unshare', '-m', 'sh', '-c', mount, copy, process.execPath];
    expectProblem(start(copy, { command }), { reason: 'mounted noexec', cure: 'without noexec', cause: 'ERR_DLOPEN_FAILED' });
  });

  test('not supported: the supported platforms, and no cause', () => {
    const { copy } = copyPackage(world);
    const said = start(copy, { before: "Object.defineProperty(process, 'arch', { value: 'riscv64' });" });
    expect(said.message).toContain(`${process.platform}-riscv64 is not supported. Run the program on one of linux-x64, `);
    expect(said.cause).toBe(undefined);
  });

  test('the same in the log of PluginEnvironmentManager', () => {
    const { root } = install({ platform: false });
    const code = `
      const { PluginEnvironmentManager } = require(${JSON.stringify(root)});
      const said = [];
      const logger = { debug() {}, info() {}, warn() {}, error: (text, { code }) => said.push({ text, code }) };
      const manager = new PluginEnvironmentManager({ envsDir: ${JSON.stringify(world.envsDir)}, logger });
      manager.ensureDependencies('plugin', '/', 'node', { file: 'x', install_command: 'true' }).then(async (ready) => {
        console.log(JSON.stringify({ ready, said, is: await manager.isReady('plugin'), path: manager.getPythonPath('plugin') }));
      });`;
    const { stdout } = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8' });
    expect(JSON.parse(stdout)).toEqual({
      ready: false,
      said: [{ code: 'ERR_UNSUPPORTED', text: expect.stringContaining("Failed to install the environment of 'plugin': no addon for ") }],
      is: false,
      path: 'python3',
    });
  });
});
