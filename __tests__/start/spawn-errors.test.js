'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { record } = require('../helpers/events');
const { descendants } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { PYTHON } = require('../helpers/python');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');
const { useRefusal } = require('./refusal');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);
const { refusal } = useRefusal(world);

// A hard limit, because Node raises the soft one.
const limited = ['/bin/sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'];

test('ERR_SPAWN: ENOENT names a command that does not exist', async () => {
  const command = world.path('no-such-program');
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toMatch(/ENOENT: .*not found/);
});

test('ERR_SPAWN: ENOENT names a bare command that is not in PATH', async () => {
  const message = await refusal(world.manager(), { command: 'no-such-program-anywhere' });
  expect(message).toContain('no-such-program-anywhere');
  expect(message).toContain('ENOENT');
});

test('ERR_SPAWN: ENOENT names a pluginPath that does not exist', async () => {
  const pluginPath = world.path('no-such-plugin');
  const message = await refusal(world.manager(), { pluginPath });
  expect(message).toContain(pluginPath);
  expect(message).toMatch(/ENOENT: .*not found/);
  expect(message).not.toContain(PYTHON);
});

test('ERR_SPAWN: ENOTDIR names a pluginPath that is a file', async () => {
  const pluginPath = world.path('file');
  fs.writeFileSync(pluginPath, '');
  const message = await refusal(world.manager(), { pluginPath });
  expect(message).toContain(pluginPath);
  expect(message).toContain('ENOTDIR');
});

test('ERR_SPAWN: EACCES names a command that is not executable', async () => {
  const command = world.path('text');
  fs.writeFileSync(command, '#!/bin/sh\n', { mode: 0o644 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toContain('EACCES');
});

test('ERR_SPAWN: EACCES names a command that is a folder', async () => {
  const message = await refusal(world.manager(), { command: world.pluginPath });
  expect(message).toContain(world.pluginPath);
  expect(message).toContain('EACCES');
});

test('command: a file without #! runs by /bin/sh, as with execvp(3)', async () => {
  const command = world.path('shell-script');
  fs.writeFileSync(command, `: > '${world.path('ran')}'\nexec '${PYTHON}' "$@"\n`, { mode: 0o755 });
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { command }));
  expect(fs.existsSync(world.path('ran'))).toBe(true);
  expect(manager.isRunning('plugin')).toBe(true);
});

/** The header of an executable for another machine. 183 is `EM_AARCH64`, 62 is `EM_X86_64`. */
function elf(machine) {
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(machine, 18);
  return header;
}

const [machine, machineName] = process.arch === 'arm64' ? [62, 'x86_64'] : [183, 'aarch64'];

test.each([
  ['is empty', '', 'Exec format error'],
  ['has #! without an interpreter', '#!\n: > RAN\n', 'Exec format error'],
  ['holds a NUL in its first line', 'a\0b\n: > RAN\n', 'Exec format error'],
  ['is a Mach-O file', Buffer.from('cffaedfe0a3a203e2052414e0a', 'hex'), 'Exec format error'],
  ['is an ELF file for another machine', elf(machine), `built for another machine (${machineName})`],
])('ERR_SPAWN: ENOEXEC for a file that %s, which no shell runs', async (_, content, reason) => {
  const command = path.join(world.pluginPath, 'not-a-program');
  fs.writeFileSync(command, content, { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toMatch(/ENOEXEC: /);
  expect(message).toContain(command);
  expect(message).toContain(reason);
  expect(fs.existsSync(path.join(world.pluginPath, 'RAN'))).toBe(false);
});

test('ERR_SPAWN: E2BIG names the command and no argument', async () => {
  const command = '/bin/true';
  const message = await refusal(world.manager(), { command, args: [`hunter2${'x'.repeat(200_000)}`] });
  expect(message).toContain(command);
  expect(message).toContain('E2BIG');
  expect(message).not.toContain('hunter2');
  expect(message.length).toBeLessThan(1_000);
});

test('ERR_SPAWN: EACCES names the path found in PATH for a bare command', async () => {
  const folder = world.path('bin');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'not-executable'), '#!/bin/sh\n', { mode: 0o644 });
  const message = await refusal(world.manager(), { command: 'not-executable', envVars: { PATH: `/no/such:${folder}:/bin` } });
  expect(message).toContain(path.join(folder, 'not-executable'));
  expect(message).toContain('EACCES');
});

test('ERR_SPAWN: ENOENT for a script whose interpreter does not exist', async () => {
  const command = world.path('script');
  fs.writeFileSync(command, '#!/no/such/interpreter\n', { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toContain('ENOENT');
});

test.each([
  ['#!/no/such/interpreter\n', '/no/such/interpreter'],
  ['#! \t/no/such/interpreter -u\n', '/no/such/interpreter'],
  ['#!/no/such/interpreter', '/no/such/interpreter'],
  // A script that was edited on Windows.
  ['#!/bin/sh\r\n', '/bin/sh\\r'],
])('ERR_SPAWN: ENOENT names the interpreter that does not exist, as it stands in the script: %j', async (text, interpreter) => {
  const command = world.path('script');
  fs.writeFileSync(command, text, { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toContain('ENOENT');
  expect(message).toContain(`the interpreter ${interpreter} that it names was not found`);
});

test('ERR_SPAWN: ENOENT names the interpreter that the interpreter of a script names', async () => {
  const command = world.path('script');
  fs.writeFileSync(command, `#!${world.path('wrapper')}\n`, { mode: 0o755 });
  fs.writeFileSync(world.path('wrapper'), '#!/no/such/interpreter\n', { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(`program ${command} can't be run`);
  expect(message).toContain('the interpreter /no/such/interpreter that it names');
});

test('ERR_SPAWN: missing command, missing pluginPath and command without permission have three messages', async () => {
  const manager = world.manager();
  fs.writeFileSync(world.path('x'), '', { mode: 0o644 });
  // The same path in all three messages, so that only the kind differs.
  const missing = (await refusal(manager, { command: world.path('missing') })).replaceAll(world.path('missing'), 'PATH');
  const nowhere = (await refusal(manager, { pluginPath: world.path('missing') })).replaceAll(world.path('missing'), 'PATH');
  const barred = (await refusal(manager, { command: world.path('x') })).replaceAll(world.path('x'), 'PATH');
  expect(new Set([missing, nowhere, barred]).size).toBe(3);
});

test('ERR_SPAWN: no message contains an argument or a value of a variable', async () => {
  const secrets = { args: ['hunter2-argument'], envVars: { TOKEN: 'hunter2-value' } };
  const manager = world.manager();
  for (const changes of [{ command: '/no/such' }, { pluginPath: '/no/such' }, { command: '/tmp' }, { command: '/bin/false' }]) {
    const error = await failure(manager.startProcess({ ...world.config('plugin'), ...secrets, ...changes }));
    expect(error.message + error.stack + error.stderr + manager.getProcessInfo('plugin').lastError).not.toContain('hunter2');
  }
});

test('ERR_SPAWN: is announced by stateChange and not restarted', async () => {
  const manager = world.manager();
  const events = record(manager);
  await refusal(manager, { command: '/no/such', restart: { delay: 0 } });
  await until(() => events.states('plugin').length >= 2);
  expect(events.states('plugin')).toEqual(['starting', 'error']);
  expect(events.of('restart')).toEqual([]);
});

test('ERR_SPAWN: a start succeeds once the command exists', async () => {
  const manager = world.manager();
  await refusal(manager, { command: world.path('later') });
  fs.symlinkSync(PYTHON, world.path('later'));
  await manager.startProcess({ ...world.config('plugin'), command: world.path('later') });
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running' });
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
});

test('ERR_SPAWN: disturbs no other plugin', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('other', ['serves.py'], { args: script('serves.py') }));
  const pid = manager.getPid('other');
  for (let round = 0; round < 5; round++) await refusal(manager, { command: '/no/such' });
  expect(manager.isRunning('other')).toBe(true);
  expect(manager.getPid('other')).toBe(pid);
  expect(descendants(process.pid).some((process) => process.pid === pid)).toBe(true);
});

test.each([
  ['before the first start', false],
  ['beside a running daemon', true],
])('EMFILE: a start without free descriptors says so, and the next one works: %s', async (_, warm) => {
  const owner = commandedOwner({}, { before: limited });
  if (warm) expect(await owner.asks('startProcess', config('other'))).toEqual({});
  const { value: refused } = await owner.asks('startWith', 0, config('plugin'));
  expect(refused.error).toEqual({ ...errorWith('', 'EMFILE'), code: expect.stringMatching(/^ERR_(SPAWN|IO)$/) });
  // Without the supervisor's thread the plugin stays unknown.
  expect(refused.state).toBe(warm ? 'error' : undefined);

  expect(await owner.asks('startProcess', config('plugin'))).toEqual({});
  expect((await owner.asks('isRunning', 'plugin')).value).toBe(true);
  expect((await owner.asks('isRunning', 'other')).value).toBe(warm);
  expect(await owner.asks('stopAllProcesses')).toEqual({});
});
