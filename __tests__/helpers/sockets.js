'use strict';

const net = require('node:net');

/** Whether a listener takes a connection at `socketPath`. */
function connects(socketPath) {
  return new Promise((resolve) => {
    const client = net.connect(socketPath);
    client.on('connect', () => resolve(true)).on('error', () => resolve(false));
    client.on('connect', () => client.destroy());
  });
}

module.exports = { connects };
