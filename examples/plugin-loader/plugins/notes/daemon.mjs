/**
 * Keeps notes in memory and in a file beside the socket, so that notes survive a kill of this process.
 *
 * One JSON object per line, over the socket at SOCKET_PATH:
 *
 *     {"add": "buy milk"}  ->  {"id": 1}
 *     {"list": true}       ->  {"notes": ["buy milk"]}
 */
import { appendFileSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

const socketPath = process.env.SOCKET_PATH;
const file = join(dirname(socketPath), 'notes.jsonl');
const notes = load();

function load() {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  // If a process is killed during a write, the last line is incomplete. Its note was not confirmed.
  if (lines.pop() !== '') appendFileSync(file, '\n');
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

function answer(line) {
  try {
    const request = JSON.parse(line);
    if (typeof request.add === 'string') {
      // Written before the answer confirms the note.
      appendFileSync(file, `${JSON.stringify(request.add)}\n`);
      return { id: notes.push(request.add) };
    }
    if (request.list) return { notes };
    return { error: 'neither a note to add nor a list' };
  } catch (error) {
    return { error: error.message };
  }
}

const connections = new Set();
const server = createServer((connection) => {
  connections.add(connection);
  connection.on('close', () => connections.delete(connection));
  const lines = createInterface({ input: connection });
  lines.on('line', (line) => connection.write(`${JSON.stringify(answer(line))}\n`));
  // If the client is gone, the daemon goes on. The interface emits the connection's errors too.
  for (const emitter of [connection, lines]) emitter.on('error', () => {});
});

const listening = () => console.log(`${notes.length} notes`);
if (process.env.ALLY_LISTEN_FD) {
  // The manager has made the socket, and has started this process for its first connection.
  server.listen({ fd: Number(process.env.ALLY_LISTEN_FD) }, listening);
} else {
  // A killed daemon leaves its socket file. The manager has made sure that no process listens there.
  rmSync(socketPath, { force: true });
  server.listen(socketPath, listening);
}

function end(signal) {
  console.log(`ending on ${signal}`);
  // `close` removes a socket file that this process has made. Without server and connections the process ends.
  server.close();
  for (const connection of connections) connection.destroy();
}
process.once('SIGTERM', end);
process.once('SIGINT', end);
