/**
 * A table of daemons as lines of text. Nothing here reads a clock, a terminal or a manager.
 *
 * A daemon is `{ name, state, pid?, uptime?, restarts?, cpuPercent?, memory?, lastProbe?: { passed, latency } }`: uptime and
 * latency in milliseconds, memory in bytes. An absent value is shown as "-".
 */
import measure from 'fast-string-truncated-width';

const COLUMNS = [
  { title: 'NAME', text: ({ name }) => printable(name) },
  { title: 'STATE', text: ({ state }) => printable(state), colour: ({ state }) => STATE_COLOURS[state] },
  { title: 'PID', right: true, text: ({ pid }) => pid },
  { title: 'UPTIME', right: true, text: ({ uptime }) => uptime !== undefined && duration(uptime) },
  { title: 'RESTARTS', right: true, text: ({ restarts }) => restarts },
  { title: 'CPU', right: true, text: ({ cpuPercent }) => cpuPercent !== undefined && `${cpuPercent.toFixed(1)} %` },
  { title: 'MEMORY', right: true, text: ({ memory }) => memory !== undefined && bytes(memory) },
  {
    title: 'LAST PROBE',
    right: true,
    text: ({ lastProbe }) => lastProbe && `${lastProbe.passed ? 'passed' : 'failed'} ${lastProbe.latency.toFixed(1)} ms`,
    colour: ({ lastProbe }) => (lastProbe?.passed === false ? 'red' : undefined),
  },
];
const CODES = { bold: 1, red: 31, green: 32, yellow: 33 };
const STATE_COLOURS = { running: 'green', starting: 'yellow', stopping: 'yellow', error: 'red' };
const GAP = '  ';
/** A narrow terminal takes the width from names first, down to this. */
const LEAST_NAME = 8;
const ESCAPE = '\u001b';
const COLOUR = new RegExp(`(${ESCAPE}\\[\\d*m)`);
const SEGMENTER = new Intl.Segmenter();

/**
 * The lines of the table, the titles first, each at most `width` columns wide and without blanks at its end.
 *
 * @param {object[]} daemons
 * @param {object} [options]
 * @param {number} [options.width] of the terminal; without it nothing is cut
 * @param {boolean} [options.colour] whether the lines have escape sequences for colours
 */
export function daemonTable(daemons, { width = Number.POSITIVE_INFINITY, colour = false } = {}) {
  const titles = COLUMNS.map(({ title }) => ({ text: title, colour: 'bold' }));
  const rows = daemons.map((daemon) => COLUMNS.map((column) => cell(column, daemon)));
  const all = [titles, ...rows];
  const widths = COLUMNS.map((_, index) => Math.max(...all.map((row) => textWidth(row[index].text))));
  const excess = widths.reduce((sum, each) => sum + each + GAP.length, -GAP.length) - width;
  if (excess > 0) widths[0] = Math.max(Math.min(widths[0], LEAST_NAME), widths[0] - excess);
  return all.map((row) => cut(joined(row, widths, colour), width));
}

/** The columns that `text` takes on a terminal. Escape sequences take none, wide characters take two. */
export function textWidth(text) {
  return measure(text).width;
}

/** `text`, or its beginning and "…", in at most `width` columns (1 or more). Colours are reset behind a cut. */
export function cut(text, width) {
  if (textWidth(text) <= width) return text;
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

/** The escape sequences for colours, and the characters as a reader sees them. */
function parts(text) {
  return text
    .split(COLOUR)
    .flatMap((part) => (part.startsWith(ESCAPE) ? part : Array.from(SEGMENTER.segment(part), ({ segment }) => segment)));
}

/** `text` without what could move the cursor, colour the terminal or reorder the line. The addon cleans its messages in the same way. */
export function printable(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
  const hidden = /\x1b\[[ -?]*[@-~]?|[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
  return String(text).replaceAll('\t', ' ').replace(hidden, '');
}

function cell({ text, colour }, daemon) {
  const value = text(daemon);
  const isAbsent = value === undefined || value === null || value === false || value === '';
  return { text: isAbsent ? '-' : String(value), colour: colour?.(daemon) };
}

function joined(row, widths, colour) {
  const cells = row.map(({ text: whole, colour: name }, index) => {
    const text = cut(whole, widths[index]);
    const blanks = ' '.repeat(widths[index] - textWidth(text));
    const shown = colour && name ? `${ESCAPE}[${CODES[name]}m${text}${ESCAPE}[0m` : text;
    return COLUMNS[index].right ? blanks + shown : shown + blanks;
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
