/** Prefixes of the powers of 1000, as formatBytes uses them. */
const PREFIXES = ['', 'k', 'M', 'G', 'T'];

/** Smallest width of the vertical axis in CSS pixels, so that the charts of a page begin at the same place. */
const MIN_WIDTH = 70;
/** Width of a digit in the font of a chart, rounded up, in CSS pixels. */
const DIGIT_WIDTH = 8;
/** Width of the mark of a label and of the gap beside it, in CSS pixels. These are the defaults of uPlot. */
const MARK_WIDTH = 15;

/** Returns the width that a vertical axis needs, in CSS pixels. A narrower axis would cut the first digits of its labels. */
export function axisWidth(labels: readonly string[]): number {
  const longest = Math.max(0, ...labels.map(({ length }) => length));
  return Math.max(MIN_WIDTH, DIGIT_WIDTH * longest + MARK_WIDTH);
}

/**
 * Returns the labels of an axis. If `format` rounds neighbouring values to the same text, the labels have as many
 * decimals as the step between the values needs.
 * @param unit unit behind the prefix, such as `B`; empty if the values have no unit
 */
export function axisLabels(
  values: readonly number[],
  format: (value: number) => string,
  unit: string,
): string[] {
  const labels = values.map(format);
  if (new Set(labels).size === values.length) return labels;
  const largest = Math.max(...values.map(Math.abs));
  const power = Math.min(PREFIXES.length - 1, Math.max(0, Math.floor(Math.log10(largest) / 3)));
  const scale = 1000 ** power;
  const step = Math.abs(values[1]! - values[0]!) / scale;
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  const suffix = `${PREFIXES[power]}${unit}`;
  return values.map((value) => `${(value / scale).toFixed(digits)}${suffix === '' ? '' : ` ${suffix}`}`);
}
