'use strict';
// What the tests of PluginEnvironmentManager share.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { PluginEnvironmentManager } = require('../..');
const { ROOT } = require('../helpers/needs');
const { until } = require('../helpers/until');

function useEnvironments(world) {
  /** A manager with a logger that keeps its entries, and `lines` from onProgress. */
  const environments = (options) => {
    const entries = [];
    const lines = [];
    const logger = Object.fromEntries(
      ['debug', 'info', 'warn', 'error'].map((level) => [level, (text, fields) => entries.push({ level, text, ...fields })]),
    );
    const manager = new PluginEnvironmentManager({
      envsDir: world.envsDir,
      logger,
      onProgress: (line, name) => lines.push(`${name}: ${line}`),
      ...options,
    });
    return { manager, entries, lines };
  };

  const marker = (name = 'plugin') => JSON.parse(fs.readFileSync(path.join(world.folder(name), '.installed'), 'utf8'));
  const hasMarker = (name = 'plugin') => fs.existsSync(path.join(world.folder(name), '.installed'));

  /** Writes a file below the plugin's folder. */
  const source = (name, text) => {
    const file = path.join(world.pluginPath, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
    return file;
  };

  /** Programs of this name are found before those of the system. Returns their folder. */
  const program = (name, text) => {
    const folder = world.path('programs');
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    if (!process.env.PATH.startsWith(folder)) world.setEnvironment({ PATH: `${folder}${path.delimiter}${process.env.PATH}` });
    return folder;
  };

  /** A python3 whose venv takes milliseconds: bin/python3 and bin/pip append their arguments to `calls`. */
  const fakePython = () => {
    const calls = world.path('calls');
    const own = `echo "$(basename "$0") $*" >> '${calls}'`;
    program(
      'python3',
      `${own}
[ "$1 $2" = '-m venv' ] || exit 0
mkdir -p "$3/bin" && : > "$3/pyvenv.cfg"
for each in python3 pip; do printf '#!/bin/sh\\n%s\\n' '${own.replaceAll("'", "'\\''")}' > "$3/bin/$each"; chmod 755 "$3/bin/$each"; done`,
    );
    // Without uv, wherever the machine has it.
    const system = process.env.PATH.split(path.delimiter).filter((folder) => !fs.existsSync(path.join(folder, 'uv')));
    world.setEnvironment({ PATH: system.join(path.delimiter) });
    return () => (fs.existsSync(calls) ? fs.readFileSync(calls, 'utf8').trim().split('\n') : []);
  };

  return { environments, fakePython, hasMarker, marker, program, source };
}

/** A package of Python as a folder that pip and uv build without a network: its setup.py needs no setuptools. */
function wheel(folder, name) {
  const script = `
import sys, zipfile
folder, name = sys.argv[1:]
info = f'{name}-1.0.dist-info'
with zipfile.ZipFile(f'{folder}/{name}-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr(f'{name}.py', 'VALUE = 42\\n')
    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(f'{info}/RECORD', f'{name}.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n')
`;
  execFileSync('python3', ['-S', '-c', script, folder, name]);
  return path.join(folder, `${name}-1.0-py3-none-any.whl`);
}

/** The text of a program that asks for an environment and prints the outcome. */
const asker = (world, args, options = '{}') => `
  const { PluginEnvironmentManager } = require(${JSON.stringify(ROOT)});
  const manager = new PluginEnvironmentManager({ envsDir: ${JSON.stringify(world.envsDir)}, onProgress: (line) => console.log(line) });
  manager.ensureDependencies(...${JSON.stringify(args)}, ${options}).then(
    (ready) => console.log(\`outcome \${ready}\`),
    (error) => console.log(\`outcome \${error.code} \${error.message}\`),
  );`;

const untilFile = (file) => until(() => fs.existsSync(file), 20_000, `${file} exists`);

module.exports = { asker, untilFile, useEnvironments, wheel };
