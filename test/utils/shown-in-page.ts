import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { firstDifference } from '../../scripts/doc-commands/shape.ts';

const ROOT = join(import.meta.dirname, '../..');

/**
 * Compares lines with a code block of a page, the one that begins with the text `beginning`. Figures, digests and times
 * may differ.
 * @returns the first difference; null if there is none
 */
export function differenceFromPage(page: string, beginning: string, lines: readonly string[]) {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const start = text.indexOf(`\`\`\`\n${beginning}`);
  if (start === -1) throw new Error(`${page} has no code block that begins with "${beginning}"`);
  const [, block] = text.slice(start).split('```');
  const real = lines.map((line) => ({ text: line, isNote: false }));
  return firstDifference(block!.trim().split('\n'), real);
}
