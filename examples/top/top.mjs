/**
 * Starts a few daemons and shows them in a table, once a second, until Ctrl-C: `npm run top`. If stdout is no terminal, it
 * prints one table and ends. Arguments are folders of plugins; without them the plugins are the examples.
 */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { LiveScreen, isLive, suspendable } from '../../cli/live-screen.js';
import { daemonTable, loadWidths } from '../../cli/table.js';
import { Daemons, EXAMPLES } from './daemons.mjs';

const INTERVAL = 1_000;
const MEASURE_TIMEOUT = 10_000;
// At a Ctrl-C the terminal signals this process, and so does npm if its shell has replaced itself by this program. Two keystrokes
// are further apart.
const SAME_KEYSTROKE = 150;

const live = isLive(process.stdout, process.env);
const colour = live && !process.env.NO_COLOR;
const screen = new LiveScreen(process.stdout);
const folders = process.argv.slice(2);
const daemons = new Daemons(folders.length > 0 ? folders : EXAMPLES);
const ending = new AbortController();
let firstSignal;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, end);
if (live) suspendable(screen);
// The reader of the pipe has gone, or the terminal has.
process.stdout.on('error', () => ending.abort());
// Emitted on every path but a SIGKILL, also after a second signal and after an exception.
process.on('exit', () => screen.close());

try {
  await loadWidths();
  const starting = daemons.start();
  starting.catch((error) => ending.abort(error));
  if (live) await showUntilTheEnd();
  await starting;
  if (!live) await printOnce();
} catch (error) {
  const isInterrupted = ending.signal.aborted && ending.signal.reason !== error;
  if (!isInterrupted) {
    screen.close();
    console.error(error);
    process.exitCode = 1;
  }
} finally {
  screen.close();
  await daemons.stop();
}

async function showUntilTheEnd() {
  process.stdout.on('resize', draw);
  while (!ending.signal.aborted) {
    draw();
    await sleep(INTERVAL, undefined, { signal: ending.signal }).catch(() => {});
  }
  process.stdout.off('resize', draw);
  // Also clears the ^C that the terminal has written below the table.
  draw();
}

function draw() {
  screen.draw(daemonTable(daemons.rows(), { width: screen.width, colour }));
}

async function printOnce() {
  const deadline = performance.now() + MEASURE_TIMEOUT;
  while (!daemons.areMeasured && performance.now() < deadline) await sleep(100, undefined, { signal: ending.signal });
  // A terminal that can't redraw has a width all the same.
  console.log(daemonTable(daemons.rows(), { width: process.stdout.columns || undefined }).join('\n'));
}

/** The first signal stops the daemons, each with its grace period. A second one ends the program, and the keepers end the daemons. */
function end(signal) {
  // Ctrl-C is the way to leave a live table, so it is no failure.
  const code = 128 + constants.signals[signal];
  if (firstSignal === undefined) {
    firstSignal = performance.now();
    process.exitCode = live && signal === 'SIGINT' ? 0 : code;
    ending.abort();
    // The stop also ends starts that are under way.
    daemons.stop().catch(() => {}); // Reported by the stop at the end.
  } else if (performance.now() - firstSignal > SAME_KEYSTROKE) {
    process.exit(code);
  }
}
