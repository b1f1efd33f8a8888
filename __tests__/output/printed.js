'use strict';

const fs = require('node:fs');

function usePrinted(world) {
  /** The arguments for prints.py: each piece is one write, [descriptor, text or bytes]. */
  function pieces(...list) {
    return [
      'prints-files.py',
      ...list.flatMap(([fd, bytes], index) => {
        const file = world.path(`piece-${index}`);
        fs.writeFileSync(file, bytes);
        return [fd, file];
      }),
    ];
  }

  /** Starts a daemon that prints this, stops it, and returns what there is to read. */
  async function printed(...list) {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', pieces(...list)));
    await manager.stopProcess('plugin');
    return manager.getOutput('plugin');
  }

  return { pieces, printed };
}

module.exports = { usePrinted };
