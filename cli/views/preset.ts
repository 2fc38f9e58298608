import { table } from '../../common/text.ts';
import type { Choice } from '../../index.ts';

/**
 * Returns a line for each setting that a preset chose, with the reason and the source.
 * @param columns maximum length of a line
 */
export function presetLines(name: string, choices: readonly Choice[], columns?: number): string[] {
  const rows = choices.map(({ field, value, why, source }) => [
    `  ${field}`,
    String(value),
    `${why} (${source})`,
  ]);
  return [`preset ${name}`, ...table(rows, { columns })];
}
