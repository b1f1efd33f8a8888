'use strict';

// The tarballs of `npm run dist`, read with tar, and installed as npm installs them from a registry.

const fs = require('node:fs');
const path = require('node:path');
const { execFile, execFileSync } = require('node:child_process');
const { promisify } = require('node:util');
const { ROOT } = require('../helpers/needs');
const { startRegistry } = require('../helpers/registry');
const { World } = require('../helpers/world');

const NAME = '@ally/background-process-manager';
const { version, repository, bugs, homepage } = require('../../package.json');
const world = new World();
const out = world.path('dist');
const run = promisify(execFile);
const libc = process.platform === 'linux' ? [fs.existsSync('/etc/alpine-release') ? 'musl' : 'glibc'] : undefined;
const suffix = [process.platform, process.arch, ...(libc ?? []).map((name) => name.replace('glibc', 'gnu'))].join('-');
const platformTarball = path.join(out, `ally-background-process-manager-${suffix}-${version}.tgz`);
const rootTarball = path.join(out, `ally-background-process-manager-${version}.tgz`);
const tar = (...args) => execFileSync('tar', args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
const read = (tarball, name) => tar('-xzOf', tarball, `package/${name}`);
const manifestOf = (tarball) => JSON.parse(read(tarball, 'package.json'));

/** Names without `package/`, each with what `tar -tv` says of its mode, owner and size. */
function contentOf(tarball) {
  return new Map(
    tar('--numeric-owner', '-tvzf', tarball)
      .trim()
      .split('\n')
      .map((line) => {
        const [mode, owner, size, , , name] = line.split(/\s+/);
        return [name.replace(/^package\//, ''), { mode, owner, size: Number(size) }];
      }),
  );
}

beforeAll(() => {
  execFileSync(process.execPath, [path.join(ROOT, 'scripts', 'dist.mjs'), '--prebuilt', '--out', out], { stdio: 'pipe' });
}, 60_000);
afterAll(() => world.end());

test('npm run dist: writes the root and the package of this platform', () => {
  expect(fs.readdirSync(out).sort()).toEqual([platformTarball, rootTarball].map((file) => path.basename(file)).sort());
});

describe('root', () => {
  test('has the JavaScript layer, the types and the documents, and nothing else', () => {
    const inside = (folder, ending) =>
      fs
        .readdirSync(path.join(ROOT, folder), { recursive: true })
        .filter((name) => name.endsWith(ending))
        .map((name) => path.join(folder, name));
    const single = ['index.js', 'index.d.ts', 'native.js', 'native.d.ts', 'package.json', 'LICENSE'];
    const documents = ['README.md', 'CHANGELOG.md', 'SECURITY.md', ...inside('docs', '.md')];
    const expected = [...single, ...documents, ...inside('lib', '.js'), ...inside('cli', '.js')];
    expect([...contentOf(rootTarball).keys()].sort()).toEqual(expected.sort());
  });

  test('only the command line is executable, all belongs to nobody in particular, and the whole is small', () => {
    const content = [...contentOf(rootTarball)];
    for (const [name, { mode, owner }] of content)
      expect([name, mode, owner]).toEqual([name, name === 'cli/main.js' ? '-rwxr-xr-x' : '-rw-r--r--', '0/0']);
    expect(content.reduce((sum, [, { size }]) => sum + size, 0)).toBeLessThan(1_000_000);
  });

  test('package.json: builds nothing, runs everywhere, and names exactly this version of each platform package', () => {
    const manifest = manifestOf(rootTarball);
    for (const key of ['scripts', 'devDependencies', 'os', 'cpu', 'private']) expect(manifest).not.toHaveProperty(key);
    expect(manifest).toMatchObject({ name: NAME, version, type: 'commonjs', license: 'MIT', engines: { node: '>=18' } });
    expect(manifest).toMatchObject({ repository, bugs, homepage, publishConfig: { access: 'public' } });
    expect(manifest.keywords.length).toBeGreaterThan(0);
    expect(manifest.peerDependencies).toEqual({ '@types/node': '>=18' });
    expect(manifest.peerDependenciesMeta).toEqual({ '@types/node': { optional: true } });
    const platforms = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl', 'darwin-x64', 'darwin-arm64'];
    expect(manifest.optionalDependencies).toEqual(Object.fromEntries(platforms.map((name) => [`${NAME}-${name}`, version])));
    expect(JSON.stringify(manifest)).not.toContain('prebuilt');
  });

  test('no link of a document is dead: it leads to a published file, or to the repository', () => {
    const names = new Set(contentOf(rootTarball).keys());
    const page = repository.url.replace(/^git\+|\.git$/g, '');
    for (const name of [...names].filter((each) => each.endsWith('.md'))) {
      for (const [, target] of read(rootTarball, name).matchAll(/\]\(([^)#\s]+)/g)) {
        const [, linked] = new RegExp(`^${page}/(?:blob|raw)/v${version}/(.+)$`).exec(target) ?? [];
        if (linked) expect([name, target, fs.existsSync(path.join(ROOT, linked))]).toEqual([name, target, true]);
        else if (!/^https?:/.test(target)) expect([...names]).toContain(path.join(path.dirname(name), target));
      }
    }
  });
});

describe('platform package', () => {
  test('has both binaries, executable, and nothing else', () => {
    const modes = [...contentOf(platformTarball)].map(([name, { mode, owner }]) => [name, mode, owner]).sort();
    expect(modes).toEqual([
      ['LICENSE', '-rw-r--r--', '0/0'],
      ['README.md', '-rw-r--r--', '0/0'],
      ['ally-guardian', '-rwxr-xr-x', '0/0'],
      ['ally.node', '-rwxr-xr-x', '0/0'],
      ['index.js', '-rw-r--r--', '0/0'],
      ['package.json', '-rw-r--r--', '0/0'],
    ]);
    const content = contentOf(platformTarball);
    for (const name of ['ally.node', 'ally-guardian']) {
      expect(content.get(name).size).toBe(fs.statSync(path.join(ROOT, 'prebuilt', `${process.platform}-${process.arch}`, name)).size);
      expect(content.get(name).size).toBeLessThan(8_000_000);
    }
  });

  test('package.json: os, cpu and libc, preferUnplugged, executableFiles', () => {
    expect(manifestOf(platformTarball)).toEqual({
      name: `${NAME}-${suffix}`,
      version,
      description: `The binaries of ${NAME} for ${suffix}`,
      license: 'MIT',
      repository,
      homepage,
      bugs,
      type: 'commonjs',
      main: 'index.js',
      files: ['index.js', 'ally.node', 'ally-guardian'],
      os: [process.platform],
      cpu: [process.arch],
      ...(libc && { libc }),
      engines: { node: '>=18' },
      preferUnplugged: true,
      publishConfig: { access: 'public', executableFiles: ['./ally-guardian'] },
    });
  });
});

describe('installed into an empty folder, with --ignore-scripts, without Rust', () => {
  const folder = world.path('app');
  const home = world.path('home');
  const hasRust = (bin) => ['cargo', 'rustc'].some((name) => fs.existsSync(path.join(bin, name)));
  const env = {
    PATH: process.env.PATH.split(path.delimiter)
      .filter((bin) => !hasRust(bin))
      .join(path.delimiter),
    HOME: home,
  };
  const inApp = (command, args) => run(command, args, { cwd: folder, env });
  const installed = (...names) => path.join(folder, 'node_modules', ...names);
  let registry;

  beforeAll(async () => {
    for (const each of [folder, home]) fs.mkdirSync(each);
    const dependency = path.join(ROOT, 'node_modules', 'fast-string-truncated-width');
    execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', home, dependency], { stdio: 'pipe' });
    const tarballs = [rootTarball, platformTarball, ...fs.readdirSync(home).map((name) => path.join(home, name))];
    registry = await startRegistry(tarballs, manifestsOfOthers());
    fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true }');
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', `--registry=${registry.url}`];
    await inApp('npm', ['install', ...flags, NAME]);
  }, 60_000);
  afterAll(() => registry?.close());

  /** As published, of other platforms, whose tarballs npm must not ask for. jest can't import modules. */
  function manifestsOfOthers() {
    const source = `
      import { platformManifest } from '${ROOT}/scripts/dist/manifests.mjs';
      import { TARGETS } from '${ROOT}/scripts/dist/targets.mjs';
      const others = TARGETS.filter(({ suffix }) => suffix !== '${suffix}');
      console.log(JSON.stringify(others.map((target) => platformManifest(${JSON.stringify(require('../../package.json'))}, target))));`;
    return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' }));
  }

  /** Writes the files of a published page: the blocks with the mark `run`, which begin with their names. */
  function copyFiles(...names) {
    const page = fs.readFileSync(installed('@ally', 'background-process-manager', ...names), 'utf8');
    for (const [, text, name] of page.matchAll(/^```(?:python|js) run\n((?:#|\/\/) (\S+)\n[\s\S]*?)^```$/gm))
      fs.writeFileSync(path.join(folder, name), text);
    return page;
  }

  test('npm takes the package of this platform alone', () => {
    const names = fs.readdirSync(installed('@ally')).sort();
    expect(names).toEqual(['background-process-manager', `background-process-manager-${suffix}`]);
    expect(registry.asked).not.toContain('-/nowhere.tgz');
    expect(fs.statSync(installed('@ally', `background-process-manager-${suffix}`, 'ally-guardian')).mode & 0o777).toBe(0o755);
  });

  test('docs/installing.md: its files, copied from the page, supervise a Python daemon and print what the page says', async () => {
    const page = copyFiles('docs', 'installing.md');
    const [, printed] = /^```text\n([^`]+)^```$/m.exec(page);
    const { stdout, stderr } = await inApp(process.execPath, ['main.mjs']);
    expect({ stdout, stderr }).toEqual({ stdout: printed, stderr: '' });
    expect(fs.existsSync(path.join(folder, 'envs', 'greeter', 'daemon.pid'))).toBe(false);
  });

  test('README: its daemon and its manager, copied from the page, start and stop', async () => {
    copyFiles('README.md');
    const { stdout, stderr } = await inApp(process.execPath, ['manager.mjs']);
    expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(/^running \d+\n$/), stderr: '' });
  });

  test('the command line runs from node_modules/.bin', async () => {
    const { stdout } = await inApp(installed('.bin', 'ally-daemons'), ['ps', '--json', '--envs-dir', path.join(folder, 'envs')]);
    expect(JSON.parse(stdout)).toBeInstanceOf(Object);
  });

  test('the platform package names its guardian and its version, and another version is refused by name', async () => {
    const own = installed('@ally', `background-process-manager-${suffix}`);
    expect(require(own)).toMatchObject({ guardian: path.join(own, 'ally-guardian'), version });
    const main = path.join(own, 'index.js');
    const text = fs.readFileSync(main, 'utf8');
    fs.writeFileSync(main, text.replace(`'${version}'`, "'9.9.9'"));
    const source = `
      const { BackgroundProcessManager } = require('${NAME}');
      const config = { pluginName: 'a', pluginPath: '/', command: 'true', args: [], socketPath: '/tmp/s' };
      new BackgroundProcessManager().startProcess(config).catch(({ code, message }) => console.log(JSON.stringify({ code, message })));`;
    const { stdout } = await inApp(process.execPath, ['-e', source]);
    const { code, message } = JSON.parse(stdout);
    expect(code).toBe('ERR_UNSUPPORTED');
    expect(message).toContain(`${NAME}-${suffix} is of another version than ${NAME}`);
    expect(message).toContain(`it has version 9.9.9, and this package ${version}`);
    fs.writeFileSync(main, text);
  });
});
