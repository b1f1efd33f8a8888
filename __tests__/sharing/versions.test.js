'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { useCli } = require('../helpers/cli');
const { testOnLinux } = require('../helpers/needs');
const { copyPackage } = require('../helpers/package-copy');
const { alive, identify, signal } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const cli = useCli(world);
const { folder, session, shared, host, hostGone, started, value } = useSessions(world);

const OTHER = '0'.repeat(16);

/** A copy of the package that is of another build: addon and guardian have another hash wherever they had that of this build. */
function anotherBuild() {
  const { copy, guardian } = copyPackage(world);
  const [, build] = /^host \d+ \d+ (\S+)/.exec(fs.readFileSync(`${folder()}/host.lock`, 'utf8'));
  for (const file of [guardian, path.join(path.dirname(guardian), 'ally.node')]) {
    const bytes = fs.readFileSync(file, 'latin1');
    expect(bytes).toContain(build);
    // A new file: the old one may be running.
    fs.rmSync(file);
    fs.writeFileSync(file, bytes.replaceAll(build, OTHER), { encoding: 'latin1', mode: 0o755 });
  }
  return copy;
}

testOnLinux('another build beside a host with sessions is refused with both versions, and its stop --all ends that host', async () => {
  const { daemon, owner } = await started();
  const { pid } = host();
  const copy = anotherBuild();
  const newer = session({ package: copy });
  const { code, message } = (await newer.asks('startProcess', shared())).error;
  expect(code).toBe('ERR_OWNED_ELSEWHERE');
  for (const part of [`process ${pid}`, OTHER, '0.1.0', '1 session', 'ally-daemons stop --all']) expect(message).toContain(part);
  expect(await value(newer, 'getState', 'plugin')).toBeUndefined();
  expect(await value(owner, 'isRunning', 'plugin')).toBe(true);
  const main = path.join(copy, 'cli', 'main.js');
  const { checks } = JSON.parse((await cli(['doctor', '--json'], { main })).stdout);
  expect(checks.find(({ check }) => check === 'host')).toMatchObject({ status: 'warning', seen: expect.stringContaining(OTHER) });
  expect(alive(daemon)).toBe(true);
  expect(await cli(['stop', '--all'], { main })).toMatchObject({ code: 0, stderr: '' });
  expect(alive(daemon)).toBe(false);
  await hostGone();
  expect(await newer.asks('startProcess', shared())).toEqual({});
});

testOnLinux(
  'another build comes while a daemon lingers: the old host makes room, and the start waits for the end of the old tree',
  async () => {
    const lingering = shared('plugin', ['serves.py'], { shared: { linger: 30_000 } });
    const { daemon, owner } = await started(lingering);
    await owner.asks('stopProcess', 'plugin');
    const old = host();
    const newer = session({ package: anotherBuild() });
    expect(await newer.asks('startProcess', shared())).toEqual({});
    expect(alive(daemon)).toBe(false);
    expect(host().pid).not.toBe(old.pid);
    // The lock is free a moment before its process has ended.
    await until(() => !alive(old), 1_500);
    expect((await owner.asks('startProcess', lingering)).error.code).toBe('ERR_OWNED_ELSEWHERE');
  },
);

testOnLinux('the program is replaced and removed while the host runs: daemons are restarted, and sessions attach', async () => {
  const { copy, guardian } = copyPackage(world);
  const owners = [session({ package: copy }), session({ package: copy })];
  const config = shared('plugin', ['serves.py'], { restart: { delay: 10 } });
  expect(await owners[0].asks('startProcess', config)).toEqual({});
  const { pid } = host();
  const daemon = identify(await value(owners[0], 'getPid', 'plugin'));
  fs.rmSync(guardian);
  fs.writeFileSync(guardian, 'no program', { mode: 0o755 });
  signal(daemon, 'SIGKILL');
  await until(async () => ![undefined, daemon.pid].includes(await value(owners[0], 'getPid', 'plugin')));
  expect(await owners[1].asks('startProcess', config)).toEqual({});
  fs.rmSync(guardian);
  expect(await owners[1].asks('startProcess', shared('other'))).toEqual({});
  expect(host().pid).toBe(pid);
});
