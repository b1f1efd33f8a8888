'use strict';

// Clients of a held socket.

const net = require('node:net');

/** Sends a text on a connection of its own. Resolves to the answer, which is empty after end of file; rejects with the errno. */
function ask(socketPath, text = 'hello') {
  return new Promise((resolve, reject) => {
    const client = net.connect(socketPath);
    client.on('error', reject);
    client.on('data', (data) => {
      resolve(String(data));
      client.destroy();
    });
    client.on('end', () => resolve(''));
    client.write(text);
  });
}

/** The code of the error with which a connection fails; undefined if it succeeds. */
const refusal = (socketPath) =>
  new Promise((resolve) => {
    const client = net.connect(socketPath);
    client.on('connect', () => resolve(undefined)).on('error', (error) => resolve(error.code));
    client.on('connect', () => client.destroy());
  });

/** A connection that stays open; `ended` resolves at end of file. */
async function waiting(socketPath) {
  const client = net.connect(socketPath);
  const ended = new Promise((resolve, reject) => client.on('end', resolve).on('error', reject));
  // It may end before anybody awaits it.
  ended.catch(() => {});
  client.resume();
  await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject));
  return { client, ended };
}

/** Clients that connect, send and read without pause until `stop`, which resolves to what they have seen. */
function busyClients(socketPath, count) {
  const seen = { answered: 0, refused: [], broken: 0 };
  let running = true;
  const loop = async () => {
    while (running) {
      try {
        const answer = await ask(socketPath);
        if (answer === '') seen.broken++;
        else seen.answered++;
      } catch (error) {
        // The daemon died with the connection: not refused.
        if (['ECONNRESET', 'EPIPE'].includes(error.code)) seen.broken++;
        else seen.refused.push(error.code);
      }
    }
  };
  const loops = Array.from({ length: count }, loop);
  return {
    seen,
    stop: async () => {
      running = false;
      await Promise.all(loops);
      return seen;
    },
  };
}

module.exports = { ask, busyClients, refusal, waiting };
