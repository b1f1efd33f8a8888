'use strict';

const { ownerText } = require('./disk.js');
const { checkKnown, pluginNames, rowsOf } = require('./plugins.js');
const { hasColour, hasReader, isTerminal, print, stdout } = require('./stdout.js');
const { PS_COLUMNS, daemonTable, isPlain, loadWidths } = require('./table.js');

const INTERVAL = 1_000;

async function ps({ operands, options, envsDir }) {
  const read = () => rowsOf(envsDir, namesOf(operands, envsDir));
  if (options.json) return repeat(options.watch, () => print(`${JSON.stringify({ envsDir, daemons: read() })}\n`));
  const lines = async (shown) => {
    const rows = read().map(forPeople);
    if (!isPlain(JSON.stringify(rows))) await loadWidths();
    return daemonTable(rows, { columns: PS_COLUMNS, ...shown });
  };
  if (options.watch) {
    const { LiveScreen, isLive } = require('./live-screen.js');
    if (isTerminal() && isLive(stdout(), process.env)) return live(new LiveScreen(stdout()), lines);
  }
  // Where nothing can be redrawn, one table follows the other.
  const width = () => (isTerminal() ? stdout().columns || undefined : undefined);
  return repeat(options.watch, async () => print(`${(await lines({ width: width(), colour: hasColour() })).join('\n')}\n`));
}

function namesOf(operands, envsDir) {
  if (operands.length === 0) return pluginNames(envsDir, { missing: [] });
  checkKnown(envsDir, operands);
  return [...new Set(operands)];
}

/** What only the kernel or the files were asked about is "-" in the table: PS_COLUMNS shows null as that. */
const forPeople = (row) => ({ ...row, owner: ownerText(row.owner), lastError: row.problem ?? row.lastError });

/** Once, or each second until the process is ended or nobody reads. */
async function repeat(isForEver, show) {
  do {
    await show();
    if (isForEver) await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  } while (isForEver && hasReader());
}

/** Redraws in place until a signal comes, which leaves the last table and a visible cursor. */
async function live(screen, lines) {
  const { suspendable } = require('./live-screen.js');
  const { setTimeout: sleep } = require('node:timers/promises');
  const ending = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => ending.abort(signal));
  const draw = async () => screen.draw(await lines({ width: screen.width, colour: hasColour() }));
  suspendable(screen);
  process.on('exit', () => screen.close());
  stdout().on('resize', () => draw().catch(() => {})); // The next regular one reports it.
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
