'use strict';
// What to run for a plugin: the script, its arguments and its variables.

const { readFile, stat } = require('node:fs/promises');
const path = require('node:path');

const { findProgram, needProgram, searchPath } = require('./programs.js');
const { NODE, PYTHON } = require('./scripts.js');
const { fillIn } = require('./shell-word.js');

/** Linux passes at most 128 KiB in one argument. */
const MAX_PACKAGE = 120_000;

/** `seen`: the text of the marker. `script` and `args`: of /bin/sh. `remarks`: what the logger gets as a warning. */
async function recipeFor(request, folder, seen) {
  const recipe = await (request.runtime === 'node' ? nodeRecipe : pythonRecipe)(request, folder);
  return { ...recipe, args: [folder, seen, JSON.stringify(request.pluginName), ...recipe.args] };
}

async function pythonRecipe({ pluginName, file, command }, folder) {
  // uv makes an environment without pip, which a command of a plugin may call.
  const uv = command === undefined ? await findProgram('uv') : undefined;
  const program = uv ?? (await needProgram('python3', pluginName));
  const given = command ?? ((await isFile(file)) ? file : undefined);
  const own = command === undefined ? '' : fillIn(command, { pip: path.join(folder, 'bin', 'pip'), envPath: folder });
  return {
    script: PYTHON,
    args: [program, uv === undefined ? 'python3' : 'uv', command === undefined ? (given ?? '') : '', own],
    remarks: given === undefined ? [missing(file)] : [],
    envVars: {
      VIRTUAL_ENV: folder,
      PATH: searchPath(path.join(folder, 'bin')),
      // With these, packages would be installed elsewhere, or looked for there.
      PYTHONHOME: undefined,
      PYTHONPATH: undefined,
      PIP_PREFIX: undefined,
      PIP_TARGET: undefined,
      PIP_USER: '0',
      // It would remove the lock and the record of a daemon.
      UV_VENV_CLEAR: undefined,
      PIP_DISABLE_PIP_VERSION_CHECK: '1',
      PIP_NO_INPUT: '1',
    },
  };
}

async function nodeRecipe({ pluginName, file, command }, folder) {
  const found = await isFile(file);
  const program = found && command === undefined ? await needProgram('npm', pluginName) : '';
  const text = found ? packageFor(await readFile(file, 'utf8'), path.dirname(file), command) : '';
  const own = command === undefined ? '' : fillIn(command, { envPath: folder });
  return {
    script: NODE,
    args: [program, text, path.dirname(file), own],
    remarks: found || command !== undefined ? [] : [missing(file)],
    envVars: {
      PATH: searchPath(path.join(folder, 'node_modules', '.bin')),
      // With these, packages would be installed elsewhere.
      npm_config_global: undefined,
      npm_config_location: undefined,
    },
  };
}

/**
 * The package.json of the environment. Its relative paths lead to where they led in the plugin's folder. Its scripts are left out:
 * they are those of the plugin, whose files are not in the environment. A file that is no JSON is npm's to judge;
 * a command of the plugin may use another one, such as a lock file.
 */
function packageFor(text, folder, command) {
  let given;
  try {
    given = JSON.parse(text);
  } catch {
    return command === undefined ? text : '';
  }
  if (typeof given !== 'object' || given === null) return command === undefined ? text : '';
  const { scripts: _, workspaces: __, ...rest } = given;
  for (const key of ['dependencies', 'devDependencies', 'optionalDependencies']) {
    if (typeof rest[key] !== 'object' || rest[key] === null) continue;
    rest[key] = Object.fromEntries(Object.entries(rest[key]).map(([name, spec]) => [name, absolute(spec, folder)]));
  }
  const own = JSON.stringify(rest, null, 2);
  return own.length > MAX_PACKAGE ? JSON.stringify(rest) : own;
}

function absolute(spec, folder) {
  const relative = /^(?:file:(?!\/)|(?=\.{1,2}(?:\/|$)))(.*)$/.exec(spec)?.[1];
  return relative === undefined ? spec : `file:${path.resolve(folder, relative)}`;
}

const missing = (file) => `${file} does not exist: no package is installed`;

const isFile = (file) =>
  stat(file).then(
    (found) => found.isFile(),
    () => false,
  );

module.exports = { recipeFor };
