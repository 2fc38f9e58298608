/**
 * Prints the differences between lora-swarm and PEFT on the adapters of make_adapters.py, as a Markdown table.
 *
 * Usage: node scripts/reference/adapter-table.ts [onnx-cpu|onnx-webgpu]
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEngine, type EngineName } from '../../lora/engines/engine.ts';
import { FIXTURES, measureAdapter, openAdapterCase } from './adapter-parity.ts';

const cacheDir = await mkdtemp(join(tmpdir(), 'adapter-table-'));
try {
  const engine = await createEngine((process.argv[2] ?? 'onnx-cpu') as EngineName, { threads: 1 });
  console.log('| largest difference | logits | losses | gradients | trained |');
  console.log('|---|---|---|---|---|');
  for (const name of (await readdir(join(FIXTURES, 'adapters'))).sort()) {
    const { logits, losses, gradients, trained } = await measureAdapter(await openAdapterCase(name), {
      engine,
      cacheDir,
    });
    const largest = [logits, losses, Math.max(...gradients.values()), Math.max(...trained.values())];
    console.log(`| ${name} | ${largest.map((value) => value.toExponential(1)).join(' | ')} |`);
  }
} finally {
  await rm(cacheDir, { recursive: true });
}
