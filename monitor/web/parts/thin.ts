/** Number of groups of neighbouring points in a chart. With two points each, a chart of 400 pixels has a point per pixel. */
const GROUPS = 200;

type Values = readonly (number | null)[];

/**
 * Returns the positions of the points that a chart draws, in ascending order. From each group of neighbouring
 * points, the chart draws only the lowest and the highest value of each line, so that peaks stay visible.
 * Painting a line of thousands of points would take half a second.
 * @param length number of points
 */
export function drawnPoints(length: number, lines: readonly Values[]): number[] {
  if (length <= 2 * GROUPS) return Array.from({ length }, (_, i) => i);
  const drawn = new Set([0, length - 1]);
  for (let group = 0; group < GROUPS; group++) {
    const start = Math.floor((group * length) / GROUPS);
    const end = Math.floor(((group + 1) * length) / GROUPS);
    for (const values of lines) for (const at of extremes(values, start, end)) drawn.add(at);
  }
  return [...drawn].sort((a, b) => a - b);
}

/** Returns the positions of the lowest and the highest value from `start` to `end`; none if there are no values. */
function extremes(values: Values, start: number, end: number): number[] {
  let low = -1;
  let high = -1;
  for (let at = start; at < end; at++) {
    const value = values[at] ?? null;
    if (value === null) continue;
    if (low < 0 || value < values[low]!) low = at;
    if (high < 0 || value > values[high]!) high = at;
  }
  return low < 0 ? [] : [low, high];
}
