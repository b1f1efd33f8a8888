'use strict';

// The end of a host that can't end all of its daemons.

const { useCli } = require('../helpers/cli');
const { testWith } = require('../helpers/needs');
const { alive, signal, stat } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const cli = useCli(world);
const { shared, host, hostGone } = useSessions(world);

/** A daemon of these sessions, on which the keeper's signals have no effect until `dies` is called. */
async function unending(...managers) {
  const marker = world.path('family');
  const config = shared('plugin', ['leads-a-tree.py', marker, 'stubborn'], { shutdownGracePeriod: 50 });
  for (const manager of managers) await manager.startProcess(config);
  const { stubborn } = await world.tree(marker);
  const keeper = stat(managers[0].getPid('plugin')).ppid;
  const fault = await inject(world, keeper, ['pidfd_send_signal:error=EPERM']);
  return { config, stubborn, dies: fault.stop };
}

const stopFailed = ({ pid }) => ({ code: 'ERR_STOP_FAILED', message: expect.stringContaining(String(pid)) });

testWith('strace')(
  'a host that ends and can not end a tree leaves: stopProcess rejects with ERR_STOP_FAILED, and so does the next start',
  async () => {
    const [first, second] = [world.manager(), world.manager()];
    const { config, stubborn, dies } = await unending(first, second);
    signal(host(), 'SIGTERM');
    await until(() => first.getState('plugin') === 'stopping');
    expect(await failure(first.stopProcess('plugin'))).toMatchObject(stopFailed(stubborn));
    await hostGone(5_000);
    for (const manager of [first, second]) {
      // Nobody would tell the session of the end of these processes.
      await until(() => manager.getPid('plugin') === undefined);
      expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'error', lastError: expect.stringContaining(String(stubborn.pid)) });
    }
    // As of an exclusive daemon: each stop tries again.
    const stops = [second.stopProcess('plugin'), second.stopProcess('plugin')];
    for (const stop of stops) expect(await failure(stop)).toMatchObject(stopFailed(stubborn));
    expect([second.getState('plugin'), second.forgetProcess('plugin')]).toEqual(['error', false]);
    expect(await failure(second.startProcess(shared('plugin', ['serves.py'], { dependsOn: ['unknown'] })))).toMatchObject({
      code: 'ERR_DEPENDENCY',
    });
    expect(second.forgetProcess('plugin')).toBe(false);
    expect(await failure(first.startProcess(config))).toMatchObject(stopFailed(stubborn));
    expect(alive(stubborn)).toBe(true);
    await dies();
    await second.stopProcess('plugin');
    expect([alive(stubborn), second.getState('plugin')]).toEqual([false, 'stopped']);
    await first.startProcess(shared());
    expect(first.isRunning('plugin')).toBe(true);
  },
  40_000,
);

testWith('strace')(
  'stop --all names the plugins and pids that a host could not end, and the host leaves',
  async () => {
    const manager = world.manager();
    const { stubborn, dies } = await unending(manager);
    const ended = await cli(['stop', '--all']);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/plugin/);
    expect(ended.stderr).toContain(String(stubborn.pid));
    await hostGone(1_000);
    expect(manager.getState('plugin')).toBe('error');
    await dies();
    await manager.stopProcess('plugin');
    expect([alive(stubborn), manager.getState('plugin')]).toEqual([false, 'stopped']);
  },
  40_000,
);
