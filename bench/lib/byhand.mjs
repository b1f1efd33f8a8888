// Daemons without a manager: child_process or execa, and connects to the socket until one succeeds.

import { spawn } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { connects } from '../../__tests__/helpers/sockets.js';
import { sleep } from '../../__tests__/helpers/until.js';

/** With a group of its own, and with its output read, as a manager does it. */
export function start(trial, name, args = []) {
  const { folder } = trial.place(name);
  const child = spawn(trial.daemon, args, { cwd: folder, env: trial.env(name), detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.on('data', () => {});
  child.stderr.on('data', () => {});
  return child;
}

export async function execa(trial) {
  const { execa: run } = await import(pathToFileURL(trial.peers.execa).href);
  return (name, args = []) => {
    const { folder } = trial.place(name);
    const child = run(trial.daemon, args, { cwd: folder, env: trial.env(name), detached: true, buffer: false, reject: false });
    child.stdout.on('data', () => {});
    child.stderr.on('data', () => {});
    return child;
  };
}

/** Connects every ten milliseconds, which is more often than usual. */
export async function answers(socket) {
  while (!(await connects(socket))) await sleep(10);
}

export const ended = (child) =>
  new Promise((resolve) => ((child.exitCode ?? child.signalCode) === null ? child.once('exit', resolve) : resolve()));

export async function stop(child) {
  child.kill('SIGTERM');
  await ended(child);
}
