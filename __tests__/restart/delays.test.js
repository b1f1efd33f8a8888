'use strict';

const { record } = require('../helpers/events');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT, crash } = require('./crash');

const world = useWorld();

/** The delays of all attempts until ERROR. */
async function delays(restart) {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good', 'refuse'], { restart }));
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  await until(() => events.states('plugin').includes('error'));
  const all = events.of('restart');
  expect(all.map(({ attempt }) => attempt)).toEqual(all.map((_, index) => index + 1));
  return all.map(({ delay }) => delay);
}

test.each([
  [
    'grow by restart.factor up to restart.maxDelay',
    { ...EXACT, maxAttempts: 5, delay: 20, factor: 2, maxDelay: 100 },
    [20, 40, 80, 100, 100],
  ],
  ['grow by restart.factor 3', { ...EXACT, maxAttempts: 3, delay: 10, factor: 3 }, [10, 30, 90]],
  ['double by default', { ...EXACT, maxAttempts: 4, delay: 15, backoff: 'exponential' }, [15, 30, 60, 120]],
  ['grow linearly up to restart.maxDelay', { ...EXACT, maxAttempts: 4, delay: 25, backoff: 'linear', maxDelay: 80 }, [25, 50, 75, 80]],
  ['stay constant', { ...EXACT, maxAttempts: 3, delay: 30, backoff: 'constant' }, [30, 30, 30]],
  ['are 0 where restart.delay is 0', { ...EXACT, maxAttempts: 3, delay: 0 }, [0, 0, 0]],
])('restart.backoff: delays %s', async (_, restart, expected) => {
  expect(await delays(restart)).toEqual(expected);
});

test('restart.jitter: spreads the delays', async () => {
  const spread = await delays({ maxAttempts: 8, delay: 40, backoff: 'constant', jitter: 0.5 });
  expect(spread).toHaveLength(8);
  for (const delay of spread) {
    expect(delay).toBeGreaterThanOrEqual(20);
    expect(delay).toBeLessThanOrEqual(60);
  }
  expect(new Set(spread).size).toBeGreaterThan(1);
});
