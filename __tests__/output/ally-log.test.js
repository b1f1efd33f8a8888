'use strict';

const { useWorld } = require('../helpers/use-world');

const world = useWorld();

test('ALLY_LOG: without a logger entries go to stderr', async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [world.config('plugin')], end: 'stop' }, { env: { ALLY_LOG: 'debug' } });
  expect(await owner.says('stopped')).toBe(true);
  await owner.closed;
  expect(owner.errors).toContain('plugin');
  expect(owner.errors).not.toContain('(on stdout)');
});

test('ALLY_LOG: says how many lines were dropped while the event loop was blocked', async () => {
  const marker = world.path('flooded');
  const owner = world.owner(
    'blocks-its-event-loop.js',
    { configs: [world.config('plugin', ['floods.py', 4, marker])], marker },
    { env: { ALLY_LOG: 'warn' } },
  );
  const lines = await owner.says('lines');
  await owner.closed;
  const counts = [...owner.errors.matchAll(/(\d+) events and (\d+) lines were dropped/g)].map(([, events, dropped]) => [
    Number(events),
    Number(dropped),
  ]);
  expect(counts.length).toBeGreaterThan(0);
  expect(counts.every(([events]) => events === 0)).toBe(true);
  // 4 MiB on each stream, in lines of 128 bytes. Each line was delivered or counted.
  expect(lines + counts.reduce((sum, [, dropped]) => sum + dropped, 0)).toBe(2 * 4 * 8_192);
  expect(lines).toBeLessThan(20_000);
});

test('ALLY_LOG: where it is not set, stderr stays empty', async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [world.config('plugin')], end: 'stop' }, { env: { ALLY_LOG: undefined } });
  expect(await owner.says('stopped')).toBe(true);
  await owner.closed;
  expect(owner.errors).toBe('');
});
