import { connect } from 'node:net';
import { createInterface } from 'node:readline';

/** Sends a JSON line to a daemon. Resolves to its answer, also a JSON line. */
export function ask(socketPath, request, timeout = 5000) {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const settle = (conclude, value) => {
      clearTimeout(timer);
      socket.destroy();
      conclude(value);
    };
    const timer = setTimeout(() => settle(reject, new Error(`no answer within ${timeout} ms`)), timeout);
    const lines = createInterface({ input: socket });
    // The interface emits the socket's errors too, and an 'error' event without a listener ends the program.
    for (const emitter of [socket, lines]) emitter.on('error', (error) => settle(reject, error));
    socket.once('close', () => settle(reject, new Error('the daemon closed the connection without an answer')));
    lines.once('line', (line) => {
      try {
        const answer = JSON.parse(line);
        if (answer.error !== undefined) throw new Error(answer.error);
        settle(resolve, answer);
      } catch (error) {
        settle(reject, error);
      }
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
}
