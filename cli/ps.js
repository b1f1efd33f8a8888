'use strict';

const { ownerText } = require('./disk.js');
const { isKnown, pluginNames, rowsOf } = require('./plugins.js');
const { Failed } = require('./problems.js');
const { PS_COLUMNS, daemonTable, loadWidths } = require('./table.js');
const { hasColour } = require('./terminal.js');

const INTERVAL = 1_000;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the range of ASCII
const ASCII = /^[\x00-\x7f]*$/;

async function ps({ operands, options, envsDir }) {
  const read = () => rowsOf(envsDir, namesOf(operands, envsDir));
  if (options.json) return repeat(options.watch, () => write(`${JSON.stringify({ envsDir, daemons: read() })}\n`));
  const lines = async (shown) => {
    const rows = read().map(forPeople);
    if (!ASCII.test(JSON.stringify(rows))) await loadWidths();
    return daemonTable(rows, { columns: PS_COLUMNS, ...shown });
  };
  if (options.watch) {
    const { LiveScreen, isLive } = require('./live-screen.js');
    if (isLive(process.stdout, process.env)) return live(new LiveScreen(process.stdout), lines);
  }
  // Where nothing can be redrawn, one table follows the other.
  const print = async () =>
    write(`${(await lines({ width: process.stdout.columns || undefined, colour: hasColour(process.stdout) })).join('\n')}\n`);
  return repeat(options.watch, print);
}

function namesOf(operands, envsDir) {
  if (operands.length === 0) return pluginNames(envsDir, { missing: [] });
  const unknown = operands.filter((name) => !isKnown(envsDir, name));
  if (unknown.length > 0) throw new Failed(`there is no plugin '${unknown.join("', '")}' below ${envsDir}`);
  return [...new Set(operands)];
}

/** What only the kernel or the files were asked about is "-" in the table: PS_COLUMNS shows null as that. */
const forPeople = (row) => ({ ...row, owner: ownerText(row.owner), lastError: row.problem ?? row.lastError });

const write = (text) => void process.stdout.write(text);

/** Once, or each second until the process is ended. */
async function repeat(isForEver, show) {
  do {
    await show();
    if (isForEver) await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  } while (isForEver);
}

/** Redraws in place until a signal comes, which leaves the last table and a visible cursor. */
async function live(screen, lines) {
  const { suspendable } = require('./live-screen.js');
  const { setTimeout: sleep } = require('node:timers/promises');
  const ending = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => ending.abort(signal));
  const draw = async () => screen.draw(await lines({ width: screen.width, colour: hasColour(process.stdout) }));
  suspendable(screen);
  process.on('exit', () => screen.close());
  process.stdout.on('resize', () => draw().catch(() => {})); // The next regular one reports it.
  try {
    while (!ending.signal.aborted) {
      await draw();
      await sleep(INTERVAL, undefined, { signal: ending.signal }).catch(() => {});
    }
    // Also clears the ^C that the terminal has written below the table.
    await draw();
  } finally {
    screen.close();
  }
  // Ctrl-C is the way to leave the table, so it is no failure.
  return ending.signal.reason === 'SIGINT' ? 0 : 128 + require('node:os').constants.signals[ending.signal.reason];
}

module.exports = { ps };
