'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { testOnLinux } = require('../helpers/needs');
const { signals, stat } = require('../helpers/proc');
const { PYTHON } = require('../helpers/python');
const { version } = require('../../package.json');
const { useReport } = require('../helpers/report');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { DAEMONS, script } = require('../helpers/world');

const world = useWorld();
const { report } = useReport(world);

test('args: reach the daemon unchanged and without a shell', async () => {
  const odd = ['', ' ', 'a b', '"quoted"', "it's", '$HOME', '`id`', '; exit 1', '*', 'a\nb', '\\', 'Größe 🦀', '--', '-x'];
  const { arguments: seen } = await report(world.manager(), {}, odd);
  expect(seen.slice(1)).toEqual(odd);
});

test('pluginPath: is the working directory', async () => {
  const { cwd } = await report(world.manager());
  expect(cwd).toBe(world.pluginPath);
});

test('pluginPath: a symbolic link is resolved for the working directory', async () => {
  fs.symlinkSync(world.pluginPath, world.path('link'));
  const { cwd } = await report(world.manager(), { pluginPath: world.path('link') });
  expect(cwd).toBe(world.pluginPath);
});

testOnLinux("POSIX session: the leader leads neither session nor group, and both are not the owner's", async () => {
  const { pid, ppid, pgid, sid, terminal } = await report(world.manager());
  const own = stat(process.pid);
  // The keeper is the parent, and makes the session.
  expect({ sid, terminal }).toEqual({ sid: ppid, terminal: 0 });
  expect([pid, ppid, own.group, own.session]).not.toContain(pgid);
  expect(own.session).not.toBe(sid);
  const identity = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8');
  expect(identity).toMatch(
    new RegExp(
      `^ally-daemon 1\\npid ${pid}\\n.*\\nsession ${sid}\\ngroup ${pgid}\\ntoken [0-9a-f]{32}\\nkeeper ${ppid}\\nversion ${version}\\ngrace \\d+\\n$`,
      's',
    ),
  );
});

/** Runs `source` in the leader, which then serves. The source writes to `out`. */
async function runs(source, changes = {}) {
  const out = world.path('out');
  const [, , , serves] = script('serves.py');
  const code = `import os, runpy, sys\nout = open(sys.argv[1], 'w')\n${source}\nout.close()\nsys.path.insert(0, sys.argv[2])\nsys.argv = sys.argv[3:]\nrunpy.run_path(sys.argv[0], run_name='__main__')`;
  const manager = world.manager();
  const config = world.config('plugin', [], { ...changes, args: [...(changes.args ?? []), '-S', '-c', code, out, DAEMONS, serves] });
  await manager.startProcess(config);
  return { pid: manager.getPid('plugin'), written: fs.readFileSync(out, 'utf8'), manager };
}

test.each([
  ['os.setsid()', 'os.getsid(0)'],
  ['os.setpgrp()', 'os.getpgid(0)'],
])('POSIX session: %s succeeds in the leader', async (call, question) => {
  const { pid, written, manager } = await runs(`${call}\nout.write(str(${question}))`);
  expect(written).toBe(String(pid));
  await manager.stopProcess('plugin');
});

testOnLinux('POSIX session: setsid(1) as the command becomes the daemon in place', async () => {
  const { pid, written } = await runs('out.write(f"{os.getpid()} {os.getsid(0)}")', { command: 'setsid', args: [PYTHON] });
  expect(written).toBe(`${pid} ${pid}`);
});

testOnLinux('POSIX session: a terminal that is opened without O_NOCTTY does not become the controlling one', async () => {
  const source = `import pty
ours, theirs = pty.openpty()
name = os.ttyname(theirs)
os.close(theirs)
terminal = os.open(name, os.O_RDWR)
out.write(open('/proc/self/stat').read().rpartition(')')[2].split()[4])
os.close(ours)  # hangs up the terminal`;
  const { pid, written, manager } = await runs(source);
  expect(written).toBe('0');
  expect(manager.getPid('plugin')).toBe(pid);
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('descriptors: a daemon has stdin from /dev/null and two outputs, nothing else', async () => {
  const manager = world.manager();
  for (const name of ['one', 'two']) await manager.startProcess(world.config(name));
  const { descriptors } = await report(manager);
  expect(Object.keys(descriptors).sort()).toEqual(['0', '1', '2']);
  expect(descriptors[0]).toBe('/dev/null');
  expect(descriptors[1]).toMatch(/^(pipe|socket):/);
  expect(descriptors[2]).toMatch(/^(pipe|socket):/);
  expect(descriptors[1]).not.toBe(descriptors[2]);
});

testOnLinux('descriptors: a restarted daemon inherits none of the owner either', async () => {
  const manager = world.manager();
  const first = await report(manager, { restart: { delay: 0 } });
  process.kill(first.pid, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', first.pid));
  const { descriptors } = JSON.parse(fs.readFileSync(world.path('report'), 'utf8'));
  expect(Object.keys(descriptors).sort()).toEqual(['0', '1', '2']);
});

testOnLinux('signals: a daemon starts with none ignored and none blocked', async () => {
  // Node itself ignores SIGPIPE, so that there is something to inherit.
  expect(signals(process.pid, 'SigIgn')).not.toBe(0n);

  const file = world.path('status');
  await world.manager().startProcess(
    world.config('plugin', [], {
      command: path.join(DAEMONS, 'saves-proc-status.sh'),
      args: [file, PYTHON, ...script('serves.py')],
    }),
  );
  const status = fs.readFileSync(file, 'utf8');
  for (const key of ['SigIgn', 'SigBlk'])
    expect([key, BigInt(`0x${new RegExp(`^${key}:\\s*(\\w+)`, 'm').exec(status)[1]}`)]).toEqual([key, 0n]);
});
