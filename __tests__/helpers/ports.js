'use strict';

const net = require('node:net');

/** A TCP server of this process at `host`. Port 0: the kernel chooses. */
function listenAt(host, port = 0) {
  return new Promise((resolve, reject) => {
    const server = net.createServer((client) => client.destroy());
    server.once('error', reject);
    server.listen({ host, port, ipv6Only: true }, () => resolve(server));
  });
}

/** A port at which nobody listens, at 127.0.0.1 and at ::1. */
async function freePort() {
  const server = await listenAt('127.0.0.1');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const close = (server) => new Promise((resolve) => server.close(resolve));

module.exports = { close, freePort, listenAt };
