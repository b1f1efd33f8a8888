'use strict';

const { Configs } = require('../../lib/configs.js');

function three() {
  const configs = new Configs();
  configs.add('plugin', 1, 'first');
  configs.settled('plugin', 1, 1);
  configs.add('plugin', 2, 'upgrade');
  configs.add('plugin', 3, 'start');
  return { configs, kept: () => [1, 2, 3].map((job) => configs.of('plugin', job)) };
}

test('configurations: calls that settle in any order leave the one that is in use', () => {
  const { configs, kept } = three();
  // The start was refused first, and then the upgrade has worked.
  configs.settled('plugin', 3, 1);
  expect(kept()).toEqual(['first', 'upgrade', 'start']);
  configs.settled('plugin', 2, 2);
  expect(kept()).toEqual([undefined, 'upgrade', undefined]);
});

test('configurations: a call that settles while a later one is under way leaves what the later one may leave in use', () => {
  const { configs, kept } = three();
  configs.settled('plugin', 2, 3);
  configs.settled('plugin', 3, 2);
  expect(kept()).toEqual([undefined, 'upgrade', undefined]);
});

test('configurations: of an unknown plugin nothing is kept', () => {
  const { configs, kept } = three();
  configs.settled('plugin', 2, undefined);
  configs.settled('plugin', 3, undefined);
  expect(kept()).toEqual([undefined, undefined, undefined]);
});
