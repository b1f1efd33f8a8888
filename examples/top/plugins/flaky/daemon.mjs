/** Accepts connections, works a little, and crashes after 4 to 12 seconds. */
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';

const socketPath = process.env.SOCKET_PATH;
// A crashed daemon leaves its socket file. The manager has made sure that no process listens there.
rmSync(socketPath, { force: true });
createServer((connection) => connection.on('error', () => {}).end()).listen(socketPath);

// A tenth of a core, so that the column CPU shows something.
setInterval(() => {
  const end = performance.now() + 10;
  while (performance.now() < end);
}, 100);

setTimeout(
  () => {
    console.error('crashing, as it does now and then');
    process.exit(1);
  },
  4_000 + 8_000 * Math.random(),
);
