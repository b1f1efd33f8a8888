'use strict';

const util = require('node:util');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { usePrinted } = require('./printed');

const world = useWorld();
const { pieces } = usePrinted(world);

const LINES = ['progress 50%done', '100%% %s %j %o %O %c %i %f %5d %.2f', '%', '10% left'];

/** A logger that keeps what `show` makes of the arguments. */
function shown(show) {
  const entries = [];
  const take = (...args) => entries.push(show(...args));
  return { entries, logger: { debug: take, info: take, warn: take, error: take } };
}

test.each([
  // As console, pino, bunyan and log4js do, and winston with splat.
  ['formats', (...args) => util.format(...args)],
  ['does not format', (text) => text],
])('logger: a logger that %s shows each line of output as it is', async (_, show) => {
  const { entries, logger } = shown(show);
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', pieces([1, `${LINES.join('\n')}\n`])));
  const lineOf = (entry) => LINES.find((line) => entry.startsWith(`plugin: ${line}`));
  await until(() => entries.filter(lineOf).length === LINES.length);
  for (const entry of entries.filter(lineOf)) {
    // A text without a format has its values behind it.
    const rest = entry.slice(`plugin: ${lineOf(entry)}`.length);
    expect(['', " { pluginName: 'plugin', stream: 'stdout' }"]).toContain(rest);
  }
});

test('logger: a text that is a format comes without values, and every other text with them', async () => {
  const { entries, logger } = shown((...args) => args);
  const manager = world.manager({ logger });
  const socketPath = world.path('50%done.sock');
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '3'], { socketPath: `${world.dir}/50%done/x.sock` })));
  await manager.startProcess(world.config('plugin', ['serves.py'], { socketPath }));
  await manager.stopProcess('plugin');
  await until(() => entries.some(([text]) => /plugin: stopped/.test(text)));
  expect(entries.length).toBeGreaterThan(4);
  for (const [text, ...values] of entries) expect({ text, count: values.length }).toEqual({ text, count: /%\S/.test(text) ? 0 : 1 });
});
