'use strict';

// What the pages of docs/ say, held against the program.

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { text } = require('node:stream/consumers');
const { execFileSync, spawnSync } = require('node:child_process');
const { NativeManager } = require('../../native');
const { ROOT, testWith } = require('../helpers/needs');
const { PYTHON } = require('../helpers/python');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();
const read = (...names) => fs.readFileSync(path.join(ROOT, ...names), 'utf8');

describe('docs/writing-a-daemon.md', () => {
  const page = read('docs', 'writing-a-daemon.md');

  /** The block that begins with this file's name, as a file in the plugin's folder. */
  function copy(name) {
    const code = [...page.matchAll(/^```\w+ run\n((?:#|\/\/) (\S+)\n[\s\S]*?)^```$/gm)].find(([, , each]) => each === name)[1];
    const file = path.join(world.pluginPath, name);
    fs.writeFileSync(file, code);
    return file;
  }

  async function start(command, args, changes) {
    const manager = world.manager();
    const exits = [];
    manager.on('exit', ({ code, signal }) => exits.push(code ?? signal));
    await manager.startProcess(world.config('plugin', [], { command, args, ...changes }));
    const greeting = () => text(net.connect(world.socket('plugin')));
    const stop = async () => {
      await manager.stopProcess('plugin');
      expectNothingLeft(world, 'plugin');
      return exits;
    };
    return { greeting, stop };
  }

  /** Clients that are gone before they are answered. */
  function connectAndLeave(times) {
    for (let round = 0; round < times; round++)
      net
        .connect(world.socket('plugin'))
        .on('error', () => {})
        .destroy();
  }

  test.each([
    ['Python', 'hello.py', PYTHON],
    ['Node.js', 'hello.mjs', process.execPath],
  ])('%s: answers, survives a client that is gone, and drains at SIGTERM', async (_, name, command) => {
    const { greeting, stop } = await start(command, [copy(name)]);
    connectAndLeave(50);
    expect(await greeting()).toBe('hello\n');
    expect(await stop()).toEqual([0]);
  });

  testWith('rustc')('Rust: answers, survives a client that is gone, and ends at SIGTERM', async () => {
    execFileSync('rustc', ['--edition', '2024', copy('hello.rs')], { cwd: world.pluginPath, stdio: 'pipe' });
    const { greeting, stop } = await start(path.join(world.pluginPath, 'hello'), []);
    connectAndLeave(50);
    expect(await greeting()).toBe('hello\n');
    expect(await stop()).toEqual(['SIGTERM']);
  });

  test('shell: is ready by its output, and ends at SIGTERM', async () => {
    const { stop } = await start('sh', [copy('hello.sh')], { readiness: { type: 'output', pattern: '^ready$' } });
    expect(await stop()).toEqual([0]);
  });
});

test('docs/configuration.md: names each field and each option', () => {
  const page = read('docs', 'configuration.md');
  const { config, options } = NativeManager.keys();
  // Fields of probes, limits and logs have pages of their own.
  const isElsewhere = (name) => /^(readiness|limits|logs|shared)\.|^healthcheck\.probe\.|^restart\.window\.|^defaults\./.test(name);
  const names = [...config, ...options].filter((name) => !isElsewhere(name)).map((name) => name.replace(/\[\]$|\.\*$/, ''));
  expect(names.filter((name) => !page.includes(`| \`${name}\``))).toEqual([]);
});

/** Texts that the sources compose of two parts. */
const COMPOSED = ['the process exited with code', 'the process was killed by', 'already running', 'already starting', 'already stopping'];

test('docs/troubleshooting.md: each message is in the sources, word for word', () => {
  const files = [path.join(ROOT, 'crates'), path.join(ROOT, 'lib')].flatMap((folder) =>
    fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)),
  );
  const sources = files.filter((name) => /(?<!tests\/.*)\.(rs|js)$/.test(name)).map((name) => fs.readFileSync(name, 'utf8'));
  const all = [...sources, ...COMPOSED].join('\n').replace(/\\\n\s*/g, '');
  const rows = read('docs', 'troubleshooting.md').matchAll(/^\| (`.+?`) +\|/gm);
  const messages = [...rows].flatMap(([, cell]) => [...cell.matchAll(/`([^`]+)`/g)].map(([, message]) => message));
  expect(messages.length).toBeGreaterThan(20);
  // Between the words in capitals, which stand for something.
  const pieces = messages.flatMap((message) => message.split(/'?\b(?:[A-Z]{2,}|[NXY])\b'?|SIGKILL/)).map((piece) => piece.trim());
  expect(pieces.filter((piece) => piece.length > 6 && !all.includes(piece))).toEqual([]);
});

test('navigation: a page without its Previous and Next, and one without a place, are refused', () => {
  const clone = world.path('clone');
  for (const name of ['scripts', 'docs', 'index.d.ts']) fs.cpSync(path.join(ROOT, name), path.join(clone, name), { recursive: true });
  fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(clone, 'node_modules'));
  const page = path.join(clone, 'docs', 'stopping.md');
  fs.writeFileSync(page, fs.readFileSync(page, 'utf8').replace('Next: [', 'Then: ['));
  fs.writeFileSync(path.join(clone, 'docs', 'new.md'), '# New\n');
  const source = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { navigationProblems } from '${clone}/scripts/docs/pages.mjs';
    const documents = readdirSync('${clone}/docs').map((name) => ({ name: 'docs/' + name, text: readFileSync('${clone}/docs/' + name, 'utf8') }));
    console.log(JSON.stringify(navigationProblems(documents)));`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
  expect(JSON.parse(stdout)).toEqual([
    'docs/new.md: scripts/docs/pages.mjs has no place for it',
    expect.stringContaining('docs/stopping.md: Previous and Next are not those'),
  ]);
});
