import { execFile } from 'node:child_process';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const VERSION_TIMEOUT = 10_000;
const VENV_TIMEOUT = 60_000;

/** The Python virtual environments of plugins, each in a folder of its plugin's name. */
export class PluginEnvironments {
  #envsDir;

  constructor(envsDir) {
    this.#envsDir = envsDir;
  }

  /** "Python 3.11.7", or undefined where there is no python3 that runs. */
  async pythonVersion() {
    try {
      return (await run('python3', ['--version'], { timeout: VERSION_TIMEOUT })).stdout.trim();
    } catch {
      return undefined;
    }
  }

  /** Makes the environment unless it is there; tells whether it had to. */
  async install(pluginName) {
    const dir = join(this.#envsDir, pluginName);
    const marker = join(dir, '.installed');
    if (await exists(marker)) return false;

    await mkdir(dir, { recursive: true, mode: 0o700 });
    // No --clear after an attempt that was cut short: a daemon's files are in this folder too.
    // No pip: these plugins need the standard library only, and it takes most of the time.
    await run('python3', ['-m', 'venv', '--without-pip', dir], { timeout: VENV_TIMEOUT });
    // Last, so that it stands for all the rest.
    await writeFile(marker, '');
    return true;
  }
}

async function exists(path) {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
