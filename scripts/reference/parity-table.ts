/**
 * Prints the differences between lora-swarm and transformers + PEFT on every reference model, as a Markdown table.
 *
 * Usage: node scripts/reference/parity-table.ts
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEngine } from '../../lora/engines/engine.ts';
import { type Difference, measureParity, QUANTITIES } from './parity.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures');
const families = join(fixtures, 'families');
const folders = [
  ...['llama-tiny-tied', 'llama-tiny-untied'].map((name) => join(fixtures, name)),
  ...(await readdir(families)).sort().map((name) => join(families, name)),
];

const cacheDir = await mkdtemp(join(tmpdir(), 'parity-table-'));
try {
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  console.log(`| largest difference, absolute / relative | ${QUANTITIES.join(' | ')} |`);
  console.log(`|---|${QUANTITIES.map(() => '---|').join('')}`);
  for (const dir of folders) {
    const parity = await measureParity(dir, engine, cacheDir);
    const name = dir.slice(dir.lastIndexOf('/') + 1);
    console.log(`| ${name} | ${QUANTITIES.map((quantity) => cell(parity[quantity])).join(' | ')} |`);
  }
} finally {
  await rm(cacheDir, { recursive: true });
}

function cell({ absolute, relative, compared }: Difference): string {
  return compared === 0 ? '' : `${absolute.toExponential(1)} / ${relative.toExponential(1)}`;
}
