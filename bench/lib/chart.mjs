// The chart of README: an SVG with a background of its own, and with colours for light and dark pages.

import { show } from './stats.mjs';

const WIDTH = 880;
const PAD = 24;
const LABEL = 262;
const VALUE = 110;
const ROW = 19;
/** A heading and the gap before it. */
const HEAD = 34;
const X0 = PAD + LABEL;
const X1 = WIDTH - PAD - VALUE;

/** The times, on one logarithmic axis: scenario, metric, heading, contestants. */
const times = [
  ['ready', 'resolved', 'Daemon listens → start resolved', ['ally', 'byhand', 'limit']],
  ['call', 'heavy', 'Start: call → return on the JavaScript thread, 1 GiB of heap', ['ally', 'byhand', 'execa']],
  ['burst50', 'stall', '50 starts at once, 1 GiB of heap: worst stall of the event loop', ['ally', 'byhand', 'execa', 'idle']],
  ['burst50', 'ready', '50 starts at once: all ready', ['ally', 'byhand', 'execa', 'limit']],
  ['exit', 'event', 'kill -9 → seen', ['ally', 'byhand']],
  ['recovery', 'recovery', 'kill -9 → listening again', ['ally', 'crowd', 'byhand', 'runit', 'pm2', 's6']],
  ['stop', 'stop', 'Stop of a willing daemon', ['ally', 'byhand', 'execa', 'pm2']],
];

/** The other figures, as bars from 0. */
const amounts = [
  ['many200', 'cpu', '200 daemons, a check each second: CPU of the owner, ms per second', ['ally', 'byhand']],
  ['many200', 'loop', '200 daemons: event loop busy, %', ['ally', 'byhand']],
  ['output', 'speed', 'Captured output, MB/s (more is better)', ['ally', 'byhand', 'limit']],
  ['output', 'loop', 'Captured output: event loop busy, ms', ['ally', 'byhand']],
  ['output', 'growth', 'Captured output: growth of the owner, MB', ['ally', 'byhand']],
];

const style = `
  .card { fill: #ffffff; stroke: #d0d7de }
  text { font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .head { font-weight: 600 }
  .dim { fill: #57606a }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .grid { stroke: #d8dee4 }
  .ally { fill: #0969da; stroke: #0969da }
  .other { fill: #8c959f; stroke: #8c959f }
  .limit { fill: #ffffff; stroke: #57606a }
  .range { stroke-width: 3; stroke-linecap: round; opacity: .45 }
  .dot { stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d }
    text { fill: #e6edf3 }
    .dim { fill: #9198a1 }
    .grid { stroke: #262c34 }
    .ally { fill: #58a6ff; stroke: #58a6ff }
    .other { fill: #7d8590; stroke: #7d8590 }
    .limit { fill: #0d1117; stroke: #9198a1 }
  }`;

const escapeText = (text) => text.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);
const text = (x, y, content, kind = '') => `<text x="${x}" y="${y}" class="${kind}">${escapeText(content)}</text>`;
const line = (x1, y1, x2, y2, kind) => `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" class="${kind}"/>`;
const kindOf = (contestant) =>
  contestant === 'ally' || contestant === 'crowd' ? 'ally' : contestant === 'limit' || contestant === 'idle' ? 'limit' : 'other';

function group({ scenarios }, [scenario, metric, heading, contestants]) {
  const measured = scenarios[scenario];
  if (!measured) return undefined;
  // Every time in milliseconds.
  const scale = measured.metrics[metric].unit === 'µs' ? 1e-3 : 1;
  const rows = contestants
    .filter((key) => measured.contestants[key]?.figures[metric])
    .map((key) => {
      const { label, figures } = measured.contestants[key];
      const { median, p10, p90 } = figures[metric];
      return { key, label, median: median * scale, p10: p10 * scale, p90: p90 * scale };
    });
  return rows.length > 0 ? { heading, rows } : undefined;
}

export function chart(results) {
  const parts = [];
  let y = PAD + 16;
  const timed = times.map((entry) => group(results, entry)).filter(Boolean);
  const counted = amounts.map((entry) => group(results, entry)).filter(Boolean);

  parts.push(text(PAD, y, 'How fast', 'title'));
  y += 20;
  const { cpu, cores, node, kernel, date } = results.machine;
  parts.push(
    text(
      PAD,
      y,
      `${cpu}, ${cores} cores, ${kernel}, Node ${node}, ${date.slice(0, 10)}. Left is better, unless said. Hollow: the physical limit.`,
      'dim',
    ),
  );
  y += 30;

  if (timed.length > 0) {
    const all = timed.flatMap(({ rows }) => rows.flatMap(({ p10, p90, median }) => [p10, p90, median])).filter((value) => value > 0);
    const low = Math.floor(Math.log10(Math.max(Math.min(...all), 0.01)));
    const high = Math.ceil(Math.log10(Math.max(...all)));
    const at = (ms) => (X0 + ((X1 - X0) * (Math.log10(Math.max(ms, 10 ** low)) - low)) / (high - low)).toFixed(1);
    const top = y;
    const bottom = y + 8 + timed.reduce((sum, { rows }) => sum + HEAD + rows.length * ROW, 0);
    for (let power = low; power <= high; power++) {
      parts.push(line(at(10 ** power), top, at(10 ** power), bottom, 'grid'));
      parts.push(
        text(
          at(10 ** power),
          bottom + 15,
          power >= 3 ? `${10 ** (power - 3)} s` : power < 0 ? `${10 ** (power + 3)} µs` : `${10 ** power} ms`,
          'dim middle',
        ),
      );
    }
    for (const { heading, rows } of timed) {
      parts.push(text(PAD, y + 24, heading, 'head'));
      y += HEAD;
      for (const { key, label, median, p10, p90 } of rows) {
        const middle = y + ROW / 2;
        parts.push(text(X0 - 12, middle + 4, label, 'end'));
        parts.push(line(at(p10), middle, at(p90), middle, `${kindOf(key)} range`));
        parts.push(`<circle cx="${at(median)}" cy="${middle}" r="5" class="${kindOf(key)} dot"/>`);
        parts.push(text(WIDTH - PAD, middle + 4, `${show(median)} ms`, 'end'));
        y += ROW;
      }
    }
    y = bottom + 38;
    parts.push(
      text(PAD, y, 'Times on a logarithmic axis: the dot is the median, the line goes from the 10th to the 90th percentile.', 'dim'),
    );
    y += 6;
  }

  for (const { heading, rows } of counted) {
    const most = Math.max(...rows.map(({ median }) => median));
    parts.push(text(PAD, y + 24, heading, 'head'));
    y += HEAD;
    for (const { key, label, median } of rows) {
      const width = Math.max(1.5, ((X1 - X0) * median) / most).toFixed(1);
      parts.push(text(X0 - 12, y + ROW / 2 + 4, label, 'end'));
      parts.push(`<rect x="${X0}" y="${y + 4}" width="${width}" height="${ROW - 8}" rx="2" class="${kindOf(key)}"/>`);
      parts.push(text(WIDTH - PAD, y + ROW / 2 + 4, show(median), 'end'));
      y += ROW;
    }
  }
  const height = y + PAD;
  const card = `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8" class="card"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Benchmark results">\n<style>${style}\n</style>\n${[card, ...parts].join('\n')}\n</svg>\n`;
}
