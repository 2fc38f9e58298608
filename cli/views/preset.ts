import { table } from '../../common/text.ts';
import type { Choice } from '../../index.ts';

/** The choices of a preset, each with its reason and source. */
export function presetLines(name: string, choices: readonly Choice[]): string[] {
  const rows = choices.map(({ field, value, why, source }) => [
    `  ${field}`,
    String(value),
    `${why} (${source})`,
  ]);
  return [`preset ${name}`, ...table(rows)];
}
