'use strict';

const fs = require('node:fs');
const { testWith } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const groupsOf = (pid) => /^Groups:\t(.*)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))[1].trim();

testWith('root')('supplementary groups: a daemon has those of its owner at the start, none that its owner has dropped', async () => {
  const owner = world.owner('drops-groups.js', {
    configs: ['before', 'after'].map((name) => world.config(name)),
    groups: [54_321, 54_322],
  });
  const { before, after } = await owner.says('pids');
  expect([before, after].map(groupsOf)).toEqual(['54321 54322', '']);
});
