'use strict';

// The command line as a process of its own.

const fs = require('node:fs');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { ROOT } = require('./needs');

const MAIN = path.join(ROOT, 'cli', 'main.js');

/** `cli(...words)`: how it ended. `cli.begin(...words)`: a process that goes on. Both have the world's envs folder, or none
 * with `envsDir: null`. `main`: the program of another copy of the package. */
function useCli(world) {
  function begin(words, { env, cwd, before = [], envsDir = world.envsDir, main = MAIN } = {}) {
    const at = envsDir === null ? [] : ['--envs-dir', envsDir];
    const command = [...before, process.execPath, main, ...words, ...at].map(String);
    const child = spawn(command[0], command.slice(1), {
      cwd: cwd ?? world.dir,
      env: { ...process.env, TEST_WORLD: world.dir, NO_COLOR: '', TERM: 'xterm', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    world.programs.push(child);
    const run = { child, stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text) => {
      run.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      run.stderr += text;
    });
    run.ended = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve({ code: code ?? signal, stdout: run.stdout, stderr: run.stderr }));
    });
    return run;
  }

  const cli = (words, options) => begin(words, options).ended;
  cli.begin = begin;
  /** The output of `--json`. Fails if it failed. */
  cli.json = async (words, options) => {
    const { code, stdout, stderr } = await cli([...words, '--json'], options);
    if (stderr !== '') throw new Error(`${code}: ${stderr}`);
    return JSON.parse(stdout);
  };
  /** The one row of `ps --json`. */
  cli.row = async (name = 'plugin', options) => (await cli.json(['ps', name], options)).daemons[0];
  return cli;
}

/** Each file below a folder, with what a reading verb must not change. */
function contents(folder) {
  if (!fs.existsSync(folder)) return undefined;
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort()
    .map((file) => {
      const { mode, ino, mtimeMs, ctimeMs, size, uid } = fs.lstatSync(file);
      const text = fs.lstatSync(file).isFile() ? fs.readFileSync(file, 'latin1') : '';
      return { file, mode, ino, mtimeMs, ctimeMs, size, uid, text };
    });
}

module.exports = { MAIN, contents, useCli };
