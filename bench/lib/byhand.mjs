// What one writes without a manager: child_process (or execa), and a socket that is tried until it answers.

import { spawn } from 'node:child_process';
import net from 'node:net';
import { pathToFileURL } from 'node:url';
import { sleep } from './clock.mjs';

/** As a manager would: a group of its own, and its output read. */
export function start(world, name, args = []) {
  const { folder } = world.place(name);
  const child = spawn(world.daemon, args, { cwd: folder, env: world.env(name), detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.on('data', () => {});
  child.stderr.on('data', () => {});
  return child;
}

export async function execa(world) {
  const { execa: run } = await import(pathToFileURL(world.peers.execa).href);
  return (name, args = []) => {
    const { folder } = world.place(name);
    const child = run(world.daemon, args, { cwd: folder, env: world.env(name), detached: true, buffer: false, reject: false });
    child.stdout.on('data', () => {});
    child.stderr.on('data', () => {});
    return child;
  };
}

export function connects(socket) {
  return new Promise((resolve) => {
    const client = net.connect(socket);
    client.once('connect', () => {
      client.destroy();
      resolve(true);
    });
    client.once('error', () => resolve(false));
  });
}

/** Every ten milliseconds is more often than most do it. */
export async function answers(socket) {
  while (!(await connects(socket))) await sleep(10);
}

export const ended = (child) =>
  new Promise((resolve) => ((child.exitCode ?? child.signalCode) === null ? child.once('exit', resolve) : resolve()));

export async function stop(child) {
  child.kill('SIGTERM');
  await ended(child);
}
