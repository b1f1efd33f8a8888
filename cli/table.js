'use strict';
/**
 * A table of daemons as lines of text. Nothing here reads a clock, a terminal or a manager.
 *
 * A daemon is `{ name, state, pid?, uptime?, restarts?, cpuPercent?, memory?, lastProbe?: { passed, latency } }`: uptime and
 * latency in milliseconds, memory in bytes. For PS_COLUMNS also `owner` and `lastError`. An absent value is shown as "-".
 */
const CODES = { bold: 1, red: 31, green: 32, yellow: 33 };
const STATE_COLOURS = { running: 'green', starting: 'yellow', stopping: 'yellow', error: 'red' };
const isPresent = (value) => value !== undefined && value !== null;

/** `least`: a narrow terminal takes the width from these columns first, the last one at first, down to this. */
const NAME = { title: 'NAME', least: 8, text: ({ name }) => printable(name) };
const STATE = {
  title: 'STATE',
  text: ({ state }) => isPresent(state) && printable(state),
  colour: ({ state }) => STATE_COLOURS[state],
};
const PID = { title: 'PID', right: true, text: ({ pid }) => pid };
const UPTIME = { title: 'UPTIME', right: true, text: ({ uptime }) => isPresent(uptime) && duration(uptime) };
const RESTARTS = { title: 'RESTARTS', right: true, text: ({ restarts }) => restarts };
const CPU = { title: 'CPU', right: true, text: ({ cpuPercent }) => isPresent(cpuPercent) && `${cpuPercent.toFixed(1)} %` };
const MEMORY = { title: 'MEMORY', right: true, text: ({ memory }) => isPresent(memory) && bytes(memory) };
const LAST_PROBE = {
  title: 'LAST PROBE',
  right: true,
  text: ({ lastProbe }) => lastProbe && `${lastProbe.passed ? 'passed' : 'failed'} ${lastProbe.latency.toFixed(1)} ms`,
  colour: ({ lastProbe }) => (lastProbe?.passed === false ? 'red' : undefined),
};
const OWNER = { title: 'OWNER', least: 8, text: ({ owner }) => isPresent(owner) && printable(owner) };
const LAST_ERROR = {
  title: 'LAST ERROR',
  least: 10,
  text: ({ lastError }) => isPresent(lastError) && printable(lastError),
  colour: () => 'red',
};

/** For a process that owns the daemons. */
const OWN_COLUMNS = [NAME, STATE, PID, UPTIME, RESTARTS, CPU, MEMORY, LAST_PROBE];
/** For any other process. */
const PS_COLUMNS = [NAME, STATE, PID, OWNER, UPTIME, RESTARTS, CPU, MEMORY, LAST_ERROR];

const GAP = '  ';
const ESCAPE = '\u001b';
const COLOUR = new RegExp(`(${ESCAPE}\\[\\d*m)`, 'g');
/** Each character takes one column. That of `shared ×2` is one of them, because the library for all others takes 10 ms to load. */
const PLAIN = /^[ -~…×]*$/;
const isPlain = (text) => PLAIN.test(text);

/**
 * The lines of the table, the titles first, each at most `width` columns wide and without blanks at its end.
 *
 * @param {object[]} daemons
 * @param {object} [options]
 * @param {number} [options.width] of the terminal; without it nothing is cut
 * @param {boolean} [options.colour] whether the lines have escape sequences for colours
 * @param {object[]} [options.columns] OWN_COLUMNS or PS_COLUMNS
 */
function daemonTable(daemons, { width = Number.POSITIVE_INFINITY, colour = false, columns = OWN_COLUMNS } = {}) {
  const titles = columns.map(({ title }) => ({ text: title, colour: 'bold' }));
  const rows = daemons.map((daemon) => columns.map((column) => cell(column, daemon)));
  const all = [titles, ...rows];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => textWidth(row[index].text))));
  let excess = widths.reduce((sum, each) => sum + each + GAP.length, -GAP.length) - width;
  for (let index = columns.length; index-- > 0 && excess > 0; ) {
    const { least = widths[index] } = columns[index];
    const taken = Math.min(excess, Math.max(widths[index] - least, 0));
    widths[index] -= taken;
    excess -= taken;
  }
  return all.map((row) => cut(joined(row, columns, widths, colour), width));
}

/** The columns that `text` takes on a terminal. Escape sequences take none, wide characters take two. */
function textWidth(text) {
  if (isPlain(text)) return text.length;
  const shown = text.replace(COLOUR, '');
  if (isPlain(shown)) return shown.length;
  if (measure === undefined) throw new Error('loadWidths() must come before a text that is not plain');
  return measure(text).width;
}

/**
 * Loads the widths of Unicode's characters, which `textWidth` needs for text that is not plain. The library is an ES module, and its load
 * takes longer than all else that a table needs.
 */
async function loadWidths() {
  measure ??= (await import('fast-string-truncated-width')).default;
}
let measure;

/** `text`, or its beginning and "…", in at most `width` columns (1 or more). Colours are reset behind a cut. */
function cut(text, width) {
  if (textWidth(text) <= width) return text;
  if (isPlain(text)) return `${text.slice(0, width - 1)}…`;
  // Not at the index of the library: it counts a character such as "…" only after the run of letters behind it.
  let kept = '';
  let columns = 1;
  for (const part of parts(text)) {
    columns += textWidth(part);
    if (columns > width) break;
    kept += part;
  }
  return `${kept}…${kept.includes(ESCAPE) ? `${ESCAPE}[0m` : ''}`;
}

let segmenter;

/** The escape sequences for colours, and the characters as a reader sees them. */
function parts(text) {
  // Made at the first use: it takes longer than the rest of this module.
  segmenter ??= new Intl.Segmenter();
  return text
    .split(COLOUR)
    .flatMap((part) => (part.startsWith(ESCAPE) ? part : Array.from(segmenter.segment(part), ({ segment }) => segment)));
}

let hidden;

/** `text` without what could move the cursor, colour the terminal or reorder the line. The addon cleans its messages in the same way. */
function printable(text) {
  if (isPlain(text)) return String(text);
  // No literal, because the classes of Unicode would be compiled with this module, and few texts need them.
  hidden ??= new RegExp(`${ESCAPE}\\[[ -?]*[@-~]?|[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Zl}\\p{Zp}]`, 'gu');
  return String(text).replaceAll('\t', ' ').replace(hidden, '');
}

function cell({ text, colour }, daemon) {
  const value = text(daemon);
  const isAbsent = value === undefined || value === null || value === false || value === '';
  return { text: isAbsent ? '-' : String(value), colour: colour?.(daemon) };
}

function joined(row, columns, widths, colour) {
  const cells = row.map(({ text: whole, colour: name }, index) => {
    const text = cut(whole, widths[index]);
    const blanks = ' '.repeat(widths[index] - textWidth(text));
    const shown = colour && name ? `${ESCAPE}[${CODES[name]}m${text}${ESCAPE}[0m` : text;
    return columns[index].right ? blanks + shown : shown + blanks;
  });
  return cells.join(GAP).trimEnd();
}

/** For example "4s", "2m 05s", "3h 07m", "12d 01h". */
function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (number) => String(number).padStart(2, '0');
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600), Math.floor(seconds / 60)];
  if (days > 0) return `${days}d ${two(hours % 24)}h`;
  if (hours > 0) return `${hours}h ${two(minutes % 60)}m`;
  return minutes > 0 ? `${minutes}m ${two(seconds % 60)}s` : `${seconds}s`;
}

function bytes(count) {
  const mebibytes = count / 2 ** 20;
  return mebibytes < 1024 ? `${mebibytes.toFixed(1)} MiB` : `${(mebibytes / 1024).toFixed(1)} GiB`;
}

module.exports = { OWN_COLUMNS, PS_COLUMNS, cut, daemonTable, isPlain, loadWidths, printable, textWidth };
