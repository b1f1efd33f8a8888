'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { isLocked, withEnvironment } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

const ROUNDS = Number(process.env.ALLY_RACES ?? 100);

async function racing() {
  const owners = [0, 1].map(() => world.owner('starts-at-a-moment.js', { config: config() }, { ipc: true }));
  await Promise.all(owners.map((owner) => owner.says('ready')));
  return owners;
}

async function race(owners) {
  // Both owners spin until this moment.
  const at = performance.timeOrigin + performance.now() + 8;
  const outcomes = await Promise.all(owners.map((owner) => owner.asks('start', at)));
  return { outcomes, winner: outcomes.findIndex(({ value }) => value && !value.code) };
}

test(
  'lease: two owners race for a name, and each time one gets it',
  async () => {
    const owners = await racing();
    const wins = [0, 0];
    for (let round = 0; round < ROUNDS; round++) {
      const { winner, outcomes } = await race(owners);
      const loser = 1 - winner;
      const { pid } = outcomes[winner].value;
      expect({ round, loser: outcomes[loser].value }).toEqual({ round, loser: { code: 'ERR_OWNED_ELSEWHERE', pid: expect.any(Number) } });
      expect({ round, file: fs.readFileSync(world.pidFile('plugin'), 'utf8') }).toEqual({ round, file: `${pid}\n` });
      if (round % 20 === 0)
        expect(
          withEnvironment(world.dir)
            .filter((found) => !owners.some((owner) => owner.pid === found.pid))
            .map((found) => found.pid),
        ).toEqual([pid]);
      wins[winner]++;
      expect({ round, stop: await owners[winner].asks('stop') }).toEqual({ round, stop: { value: 'stopped' } });
    }
    // If one owner won all rounds, there was no race.
    expect(Math.min(...wins)).toBeGreaterThan(0);
    if (ROUNDS > 100) console.log(`won ${wins[0]} to ${wins[1]}`);
  },
  20_000 + ROUNDS * 200,
);

testWith('strace')('ERR_OWNED_ELSEWHERE: names the owner that has locked and not yet written its note', async () => {
  const [former, next] = [commandedOwner(), commandedOwner()];
  await expectStartAndStop(former);
  await expectStartAndStop(next, 'warm');
  // The note is written half a second after the lock is taken.
  const fault = await inject(world, await supervisorThread(next), ['ftruncate:delay_enter=500000:when=1']);
  const start = next.asks('startProcess', config());
  await until(() => isLocked(path.join(world.folder('plugin'), 'daemon.lock')));
  const { error } = await former.asks('startProcess', config());
  expect(await start).toEqual({});
  await fault.stop();
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: next.pid });
});
