'use strict';

const fs = require('node:fs');

function usePrinted(world) {
  /** The arguments of prints-files.py: a piece is one write(2), [descriptor, text or bytes]. */
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

  /** Starts a daemon that prints these pieces, stops it, and returns getOutput. */
  async function printed(...list) {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', pieces(...list)));
    await manager.stopProcess('plugin');
    return manager.getOutput('plugin');
  }

  return { pieces, printed };
}

module.exports = { usePrinted };
