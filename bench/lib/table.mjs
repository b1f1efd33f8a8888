// Figures as tables.

import { show } from './stats.mjs';

function align(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join('  ')
      .trimEnd(),
  );
}

/** The table of a scenario: a row per metric and contestant. */
export function table({ title, metrics, contestants }) {
  const rows = [['', '', 'median', 'p10', 'p90', 'max', 'n']];
  for (const [metric, { label, unit }] of Object.entries(metrics)) {
    rows.push([`  ${label}, ${unit}`, '', '', '', '', '', '']);
    for (const { label: contestant, figures } of Object.values(contestants)) {
      const figure = figures[metric];
      if (figure)
        rows.push([
          `    ${contestant}`,
          '',
          ...['median', 'p10', 'p90', 'max', 'n'].map((key) => (key === 'n' ? String(figure.n) : show(figure[key]))),
        ]);
    }
  }
  return [title, ...align(rows)].join('\n');
}

/** The table of the targets: met or missed. */
export function verdicts(list) {
  const rows = list.map(({ what, value, limit, unit, met, beside }) => [
    `  ${met ? 'met   ' : 'MISSED'} ${what}`,
    `${show(value)} ${unit}`,
    `≤ ${show(limit)}`,
    beside ?? '',
  ]);
  return align(rows).join('\n');
}

/** The table of the targets in Markdown. */
export function markdown({ machine, targets }) {
  const { cpu, cores, kernel, node, date } = machine;
  return [
    `${cpu}, ${cores} cores, ${kernel}, Node ${node}, ${date.slice(0, 10)}.`,
    '',
    '| | measured | wanted | beside it, in the same run |',
    '|---|--:|--:|---|',
    ...targets.map(
      ({ what, value, limit, unit, met, beside }) =>
        `| ${what} | ${show(value)} ${unit}${met ? '' : ' (missed)'} | ≤ ${show(limit)} | ${beside} |`,
    ),
  ].join('\n');
}
