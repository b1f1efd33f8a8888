// Answers each connection with a greeting. The manager holds the socket, so it is descriptor 3 (sd_listen_fds(3)).
import { createServer } from 'node:net';

const GREETING = 'hello 1';

// A client that has gone is no problem.
const server = createServer((client) => client.on('error', () => {}).end(`${GREETING}\n`));
server.listen({ fd: 3 });

// The drain recipe: stop accepting, finish what was accepted, exit.
process.once('SIGTERM', () => server.close());
