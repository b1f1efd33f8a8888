'use strict';

const fs = require('node:fs');

function useRecords(world) {
  const mode = (file) => fs.lstatSync(file).mode & 0o777;

  const ours = (name) => fs.readdirSync(world.folder(name)).filter((file) => file !== 'daemon.sock');

  return { mode, ours };
}

module.exports = { useRecords };
