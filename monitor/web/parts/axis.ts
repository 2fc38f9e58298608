/** Prefixes of the powers of 1000, as formatBytes uses them. */
const PREFIXES = ['', 'k', 'M', 'G', 'T'];

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
