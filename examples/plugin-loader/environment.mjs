import { execFile } from 'node:child_process';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const VERSION_TIMEOUT = 10_000;
const VENV_TIMEOUT = 60_000;

/** The Python virtual environments of plugins, each in the folder of its plugin. */
export class PluginEnvironments {
  #envsDir;

  constructor(envsDir) {
    this.#envsDir = envsDir;
  }

  /** For example "Python 3.11.7". Undefined if python3 is missing or fails. */
  async pythonVersion() {
    try {
      return (await run('python3', ['--version'], { timeout: VERSION_TIMEOUT })).stdout.trim();
    } catch {
      return undefined;
    }
  }

  /** Creates the environment unless it exists. Resolves to true if it was created. */
  async install(pluginName) {
    const dir = join(this.#envsDir, pluginName);
    const marker = join(dir, '.installed');
    if (await exists(marker)) return false;

    await mkdir(dir, { recursive: true, mode: 0o700 });
    // Without --clear after an interrupted install, because a daemon's files are in this folder too.
    // Without pip, which takes most of the time: these plugins need the standard library only.
    await run('python3', ['-m', 'venv', '--without-pip', dir], { timeout: VENV_TIMEOUT });
    // Written last, so that the marker means a complete environment.
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
