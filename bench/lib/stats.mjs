// Samples to figures, and figures to text.

function quantile(sorted, share) {
  const at = (sorted.length - 1) * share;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** Four digits are more than these measurements are exact to. */
const round = (value) => Number(value.toPrecision(4));

export function summary(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share) => round(quantile(sorted, share));
  return { n: sorted.length, median: at(0.5), p10: at(0.1), p90: at(0.9), min: at(0), max: at(1) };
}

export function show(value) {
  if (value === undefined || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString('en-US', { minimumFractionDigits: value === 0 ? 0 : digits, maximumFractionDigits: digits });
}
