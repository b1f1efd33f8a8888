'use strict';

const net = require('node:net');

/** What the listener at `socketPath` sends until it closes the connection. Rejects as connect(2) fails. */
function ask(socketPath) {
  return new Promise((resolve, reject) => {
    let text = '';
    const client = net.connect(socketPath);
    client.setEncoding('utf8').on('data', (chunk) => (text += chunk));
    client.on('error', reject).on('end', () => resolve(text));
  });
}

module.exports = { ask };
