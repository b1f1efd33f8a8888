'use strict';

// The protocol as the programs speak it that daemons use: systemd-notify, and sd_notify in Python.

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testWith } = require('../helpers/needs');
const { execFileSync } = require('node:child_process');
const { PYTHON } = require('../helpers/python');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const withSystemd = testWith('systemd-notify');
const NOTIFY = { type: 'notify' };

const shell = (script, changes) => world.config('plugin', [], { readiness: NOTIFY, command: 'sh', args: ['-c', script], ...changes });

/** Whether this systemd-notify has the option. */
const has = (option) => execFileSync('systemd-notify', ['--help'], { encoding: 'utf8' }).includes(option);

withSystemd('systemd-notify --ready --status: a shell script is ready, and the barrier does not hang', async () => {
  const manager = world.manager();
  const marker = world.path('took');
  // It sends BARRIER=1 after each call, and waits up to 5 s for its end.
  await manager.startProcess(
    shell(
      `a=$(date +%s%N); systemd-notify --ready --status='all "good"' || exit 9; echo $((($(date +%s%N) - a) / 1000000)) >${marker}.new; mv ${marker}.new ${marker}; exec sleep 60`,
    ),
  );
  await until(() => fs.existsSync(marker));
  expect(Number(fs.readFileSync(marker, 'utf8'))).toBeLessThan(4_000);
  expect(manager.getProcessInfo('plugin').status).toBe('all "good"');
});

withSystemd('systemd-notify --no-block: the message of a program that is gone is heard', async () => {
  const manager = world.manager();
  for (let round = 0; round < 5; round++) {
    await manager.startProcess(shell('systemd-notify --no-block --ready; exec sleep 60'));
    await manager.stopProcess('plugin');
  }
});

withSystemd('systemd-notify WATCHDOG=1: a shell loop passes the health checks', async () => {
  const manager = world.manager();
  const events = record(manager);
  const healthcheck = { interval: 1_000, timeout: 100, retries: 1, probe: NOTIFY };
  const script = 'systemd-notify --ready; while :; do systemd-notify WATCHDOG=1; sleep 0.2; done';
  await manager.startProcess(shell(script, { healthcheck, restart: { maxAttempts: 0 } }));
  await until(() => events.of('health').length >= 2);
  expect(events.of('health').every(({ healthy }) => healthy)).toBe(true);
});

withSystemd('systemd-notify: messages in a row are heard in their order', async () => {
  const manager = world.manager();
  await manager.startProcess(shell('systemd-notify --status=1; systemd-notify --status=2; systemd-notify STATUS=3 READY=1; exec sleep 60'));
  await until(() => manager.getProcessInfo('plugin').status === '3');
});

withSystemd('systemd-notify --stopping --exec --fd, as far as this version has them', async () => {
  const manager = world.manager();
  const steps = [
    has('--stopping') && 'systemd-notify --stopping || exit 8',
    has('--fd') && 'systemd-notify --fd=3 --fdname=kept 3</dev/null || exit 7',
    has('--exec') ? 'exec systemd-notify --ready --exec \\; sleep 60' : 'systemd-notify --ready; exec sleep 60',
  ];
  await manager.startProcess(shell(steps.filter(Boolean).join('; ')));
  expect(manager.isRunning('plugin')).toBe(true);
});

test('Python: the example of the documents is ready and passes its checks', async () => {
  const manager = world.manager();
  const events = record(manager);
  const code = `
import os, socket, time

def sd_notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])

sd_notify("READY=1\\nSTATUS=serves")
while True:
    sd_notify("WATCHDOG=1")
    time.sleep(int(os.environ["WATCHDOG_USEC"]) / 2e6)`;
  const healthcheck = { interval: 300, timeout: 100, retries: 1, probe: NOTIFY };
  const changes = {
    readiness: NOTIFY,
    healthcheck,
    command: PYTHON,
    args: ['-S', '-E', '-c', code],
    restart: { maxAttempts: 0 },
  };
  await manager.startProcess(world.config('plugin', [], changes));
  await until(() => events.of('health').length >= 3);
  expect(events.of('health').every(({ healthy }) => healthy)).toBe(true);
  expect(manager.getProcessInfo('plugin').status).toBe('serves');
});
