/**
 * Fills the generated blocks of docs/protocol.md from the source. Usage: node scripts/docs.ts
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import * as limits from '../protocol/limits.ts';
import { receiptMeanings } from '../protocol/receipts.ts';
import { fieldTables } from './field-tables.ts';

const page = fileURLToPath(new URL('../docs/protocol.md', import.meta.url));
const limitsSource = fileURLToPath(new URL('../protocol/limits.ts', import.meta.url));

function receiptTable(): string {
  const rows = Object.entries(receiptMeanings).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`);
  return ['| code | meaning |', '|---|---|', ...rows].join('\n');
}

function limitTable(source: string): string {
  const values = new Map<string, number>(Object.entries(limits));
  // The source groups related limits, so its order is kept.
  const rows = [...source.matchAll(/\/\*\*\s((?:(?!\*\/).)+?)\s*\*\/\nexport const ([A-Z_]+) =/gs)].map(
    ([, comment, name]) => {
      const reason = comment!.replace(/\s*\n? \* /g, ' ').trim();
      return `| \`${name}\` | ${values.get(name!)!.toLocaleString('en')} | ${reason} |`;
    },
  );
  return ['| name | value | reason |', '|---|---|---|', ...rows].join('\n');
}

function fill(text: string, block: string, content: string): string {
  const pattern = new RegExp(`(<!-- ${block}:begin -->\n)[^]*?(<!-- ${block}:end -->)`);
  if (!pattern.test(text)) throw new Error(`docs/protocol.md has no block "${block}"`);
  return text.replace(pattern, (_, begin: string, end: string) => `${begin}${content}\n${end}`);
}

export async function renderedPage(): Promise<{ current: string; rendered: string }> {
  const current = await readFile(page, 'utf8');
  const blocks = {
    receipts: receiptTable(),
    fields: fieldTables(),
    limits: limitTable(await readFile(limitsSource, 'utf8')),
  };
  const rendered = Object.entries(blocks).reduce(
    (text, [block, content]) => fill(text, block, content),
    current,
  );
  return { current, rendered };
}

if (import.meta.main) {
  const { rendered } = await renderedPage();
  await writeFile(page, rendered);
}
