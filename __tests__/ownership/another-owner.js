'use strict';

const fs = require('node:fs');
const { alive, identify } = require('../helpers/proc');

function useAnotherOwner(world) {
  const GRACE = 500;

  async function elsewhere(order, options) {
    const owner = world.owner('starts-and-ends.js', order, options);
    const { plugin } = await owner.says('ready');
    return { owner, daemon: identify(plugin) };
  }

  /** Daemon, files and socket of another owner, to compare before and after. */
  function belongings(daemon) {
    const { ino } = fs.lstatSync(world.socket('plugin'));
    const files = fs
      .readdirSync(world.folder('plugin'))
      .filter((name) => name !== 'daemon.sock')
      .sort();
    return {
      alive: alive(daemon),
      ino,
      files: files.map((name) => [name, fs.readFileSync(`${world.folder('plugin')}/${name}`, 'latin1')]),
    };
  }

  return { GRACE, elsewhere, belongings };
}

module.exports = { useAnotherOwner };
