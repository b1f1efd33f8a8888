'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { constants } = require('node:os');
const { ROOT, testOnLinux } = require('../helpers/needs');
const { withEnvironment } = require('../helpers/proc');
const { onTerminal } = require('../helpers/terminal');
const { PYTHON } = require('../helpers/python');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const PROGRAM = [process.execPath, path.join(ROOT, 'examples', 'top', 'top.mjs')];
const ESC = '\u001b';
const PLUGINS = ['flaky', 'notes', 'search'];
const RUNNING = /running +\d+ +\d+s +\d+ +[\d.]+ % +[\d.]+ MiB +passed [\d.]+ ms$/;

const tables = (text) => text.split('NAME ').length - 1;
const rowsOf = (text) => PLUGINS.map((name) => text.findLast((line) => line.startsWith(name)) ?? '');
const folders = () => fs.readdirSync(world.dir).filter((name) => name.startsWith('ally-top-'));

/** The processes and the temporary folder are gone. After a graceful end this holds at once. */
function expectNothingLeft() {
  expect(withEnvironment(world.dir)).toEqual([]);
  expect(folders()).toEqual([]);
}

/** Waits until `isMet`. An end of the program fails at once, with what it has written. */
async function shows(run, isMet, what) {
  await until(() => isMet() || run.isOver, 20_000, what);
  if (!isMet()) throw new Error(`ended before: ${what}\n${run.output}\n${run.errors}`);
}

/** Each daemon is measured. */
const isMeasured = (run) => rowsOf(run.screen().lines).every((row) => RUNNING.test(row));

/** The program on a terminal, once `isReady`. */
async function live({ isReady = isMeasured, program = PROGRAM, ...options } = {}) {
  const run = onTerminal(world, program, options);
  await shows(run, () => isReady(run), 'the table is ready');
  return run;
}

/** The program with the example plugins and one more, which runs a fixture. */
function withPlugin(name, fixture) {
  const folder = world.path('plugins');
  fs.mkdirSync(path.join(folder, name), { recursive: true });
  const manifest = { name, daemon: { command: PYTHON, args: script(...fixture) } };
  fs.writeFileSync(path.join(folder, name, 'plugin.json'), JSON.stringify(manifest));
  return [...PROGRAM, path.join(ROOT, 'examples', 'plugin-loader', 'plugins'), folder];
}

const frames = (run) => run.output.split('\r\u001b[').length;
const nextFrames = async (run, count = 2) => {
  const before = frames(run);
  await until(() => frames(run) >= before + count, 10_000, 'the table is redrawn');
};

testOnLinux('top: without a terminal one table, exit code 0, nothing left', () => {
  const env = { ...process.env, TEST_WORLD: world.dir, TMPDIR: world.dir, TERM: 'xterm' };
  const { status, stdout, stderr } = spawnSync(PROGRAM[0], PROGRAM.slice(1), { env, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).not.toContain('\u001b');
  const [titles, ...rows] = stdout.trimEnd().split('\n');
  expect(titles).toMatch(/^NAME +STATE +PID +UPTIME +RESTARTS +CPU +MEMORY +LAST PROBE$/);
  expect(rows).toEqual(PLUGINS.map(() => expect.stringMatching(RUNNING)));
  expectNothingLeft();
});

testOnLinux('top: TERM=dumb has one table too', async () => {
  const run = onTerminal(world, PROGRAM, { env: { TERM: 'dumb' } });
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  expect(run.output).not.toContain('\u001b');
  expect(tables(run.output)).toBe(1);
  expectNothingLeft();
});

testOnLinux('top: a terminal has one table, redrawn in place without a full clear', async () => {
  const run = await live();
  await nextFrames(run);
  expect(run.screen().cursorVisible).toBe(false);
  expect(tables(run.output)).toBeGreaterThan(2);
  expect(run.output).not.toMatch(new RegExp(`${ESC}(\\[[23]J|c|\\[\\d*m)`));
  run.type('\u0003');
  // Ctrl-C is the way to leave it.
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  const { lines, cursorVisible } = run.screen();
  expect(cursorVisible).toBe(true);
  // The last table stands, the cursor is below it, and neither an older table nor the ^C is left.
  expect(lines).toEqual([expect.stringMatching(/^NAME /), ...PLUGINS.map((name) => expect.stringMatching(`^${name} `)), '']);
  expectNothingLeft();
});

testOnLinux.each([['SIGTERM'], ['SIGHUP']])('top: %s stops the daemons and gives the cursor back', async (name) => {
  const run = await live();
  run.signal(constants.signals[name]);
  expect(await run.ended).toEqual({ code: 128 + constants.signals[name], settingsKept: true });
  expect(run.screen().cursorVisible).toBe(true);
  expectNothingLeft();
});

testOnLinux('top: SIGINT during the start stops what has started', async () => {
  const program = withPlugin('silent', ['never-binds.py']);
  const run = await live({ program, isReady: ({ output }) => /silent +starting/.test(output) && /notes +running/.test(output) });
  run.type('\u0003');
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  expect(run.screen().cursorVisible).toBe(true);
  expectNothingLeft();
});

testOnLinux('top: a second Ctrl-C ends it at once, and the keepers end the daemons', async () => {
  // It keeps the graceful end busy for its grace period.
  const program = withPlugin('stubborn', ['ignores-signals.py']);
  const run = await live({ program, isReady: ({ output }) => /stubborn +running/.test(output) });
  const before = run.output.length;
  run.type('\u0003');
  await until(() => run.output.slice(before).includes('\u001b[?25h'), 10_000, 'the graceful end begins');
  // Closer signals count as one keystroke.
  const next = performance.now() + 200;
  await until(() => performance.now() > next);
  run.type('\u0003');
  expect(await run.ended).toEqual({ code: 130, settingsKept: true });
  expect(run.screen().cursorVisible).toBe(true);
  await until(() => withEnvironment(world.dir).length === 0, 10_000, 'the keepers have ended the daemons');
  expect(folders()).toEqual([]);
});

testOnLinux.each([['a terminal'], ['a dumb terminal']])(
  'top: a start that fails ends it with code 1 and the error, on %s',
  async (place) => {
    const program = withPlugin('exits', ['exits.py', 3]);
    const run = onTerminal(world, program, { env: place === 'a dumb terminal' ? { TERM: 'dumb' } : {} });
    expect(await run.ended).toEqual({ code: 1, settingsKept: true });
    expect(run.output).toContain('ERR_STARTUP_EXIT');
    expect(run.output.lastIndexOf('\u001b[?25h')).toBeGreaterThanOrEqual(run.output.lastIndexOf('\u001b[?25l'));
    expectNothingLeft();
  },
);

testOnLinux('top: a crash counts as a restart', async () => {
  const run = await live();
  const pid = Number(/^notes +\S+ +(\d+)/m.exec(run.screen().lines.join('\n'))[1]);
  process.kill(pid, 'SIGKILL');
  await shows(run, () => /^notes +running +\d+ +\d+s +1 /.test(rowsOf(run.screen().lines)[1]), 'one restart of notes');
  run.type('\u0003');
  await run.ended;
  expectNothingLeft();
});

testOnLinux('top: under npm, which passes the signal on, one Ctrl-C is one', async () => {
  // bash replaces itself by the program, so npm signals the program. dash gets the signal in its place.
  const run = await live({ program: ['npm', 'run', '--silent', '--script-shell', 'bash', '--prefix', ROOT, 'top'] });
  run.type('\u0003');
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  expect(run.screen().cursorVisible).toBe(true);
  expectNothingLeft();
});

testOnLinux('top: a terminal with fewer rows than daemons shows how many are left out', async () => {
  const run = await live({ rows: 4, isReady: ({ output }) => output.includes('… 2 more') });
  await nextFrames(run);
  run.type('\u0003');
  expect((await run.ended).code).toBe(0);
  expect(run.screen().lines).toEqual([expect.stringMatching(/^NAME /), expect.stringMatching(/^flaky /), '… 2 more', '']);
  expectNothingLeft();
});

testOnLinux('top: a resize redraws within the new width', async () => {
  const run = await live();
  const before = run.output.length;
  run.resize(24, 30);
  await until(() => run.output.slice(before).includes('…'), 10_000, 'a narrower table');
  const frame = run.output.slice(run.output.lastIndexOf('\r\u001b[', run.output.indexOf('…', before)));
  // A row of the wide table takes three rows by now: 4 × 3 up.
  expect(frame).toMatch(/^\r.\[12A/);
  const widest = Math.max(
    ...frame.split('\r\n').map((line) => line.replaceAll(new RegExp(`\\r?${ESC}\\[[?\\d]*[A-Za-z]`, 'g'), '').length),
  );
  expect(widest).toBeLessThanOrEqual(30);
  run.type('\u0003');
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  expectNothingLeft();
});

testOnLinux('top: colours on a terminal, none with NO_COLOR', async () => {
  const run = await live({ env: { NO_COLOR: '' } });
  expect(run.output).toContain('\u001b[32mrunning\u001b[0m');
  run.type('\u0003');
  await run.ended;
  expectNothingLeft();
});

testOnLinux('top: Ctrl-Z gives the cursor back, SIGCONT draws the table again', async () => {
  // A shell with job control, so that somebody can continue the program.
  const run = await live({ program: ['bash', '--norc', '-ic', `${PROGRAM.join(' ')}; echo "stopped: $?"; fg >/dev/null`] });
  run.type('\u001a');
  await until(() => run.output.includes('stopped: 148'), 10_000, 'the shell has the terminal');
  const shown = run.output.slice(0, run.output.indexOf('stopped: 148'));
  expect(shown.lastIndexOf('\u001b[?25h')).toBeGreaterThan(shown.lastIndexOf('\u001b[?25l'));
  await until(() => run.output.slice(shown.length).includes('\u001b[?25l'), 10_000, 'the table is back');
  run.type('\u0003');
  await run.ended;
  expect(run.output.lastIndexOf('\u001b[?25h')).toBeGreaterThan(run.output.lastIndexOf('\u001b[?25l'));
  expectNothingLeft();
});
