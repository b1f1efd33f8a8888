'use strict';

const { Configs } = require('../../lib/configs.js');

test('configurations: a start that settles while a later one is under way leaves what the later one may leave in use', () => {
  const configs = new Configs();
  for (const [job, config] of [
    [1, 'first'],
    [2, 'second'],
  ])
    configs.add('plugin', job, config);
  configs.settled('plugin', 1, 2);
  // The second one was refused.
  configs.settled('plugin', 2, 1);
  expect([configs.of('plugin', 1), configs.of('plugin', 2)]).toEqual(['first', undefined]);
});

test('configurations: only that which is in use is kept', () => {
  const configs = new Configs();
  for (const [job, config] of [
    [1, 'first'],
    [2, 'second'],
  ])
    configs.add('plugin', job, config);
  configs.settled('plugin', 1, 1);
  configs.settled('plugin', 2, 2);
  expect([configs.of('plugin', 1), configs.of('plugin', 2)]).toEqual([undefined, 'second']);
});
