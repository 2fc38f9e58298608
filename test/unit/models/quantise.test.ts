import { spawnSync } from 'node:child_process';
import { readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describeBase, openModel, prepareWeights } from '../../../lora/models/model.ts';
import { dequantise, MatrixQuantiser, TILE_SIDE } from '../../../lora/models/quantise.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { numbers } from '../../utils/graphs.ts';
import { FIXTURES } from '../../utils/reference.ts';

const UNTIED = join(FIXTURES, 'llama-tiny-untied');
const BITS = [4, 8] as const;

function quantised(values: Float32Array, rows: number, columns: number, bits: 4 | 8, piece = values.length) {
  const quantiser = new MatrixQuantiser(rows, columns, bits);
  for (let i = 0; i < values.length; i += piece) quantiser.add(values.subarray(i, i + piece));
  return quantiser.finish();
}

describe.each(BITS)('%i bits', (bits) => {
  test('W and its transpose stand for exactly the same numbers, whatever the sizes and the pieces', () => {
    const size = fc.integer({ min: 1, max: 150 });
    const property = fc.property(
      size,
      size,
      fc.integer(),
      fc.integer({ min: 1, max: 999 }),
      (r, c, seed, n) => {
        const values = numbers(r * c, seed);
        const { plain, transposed } = quantised(values, r, c, bits, n);
        const w = dequantise(plain, c, bits);
        const turned = dequantise(transposed, r, bits);
        for (let i = 0; i < r; i++)
          for (let j = 0; j < c; j++) if (w[i * c + j] !== turned[j * r + i]) return false;
        return true;
      },
    );
    fc.assert(property, { numRuns: 40 });
  });

  test('no weight moves by more than half a step of its tile, but for those that 4 bits cut off', () => {
    const side = TILE_SIDE[bits];
    const values = numbers(side * side, 7);
    const { plain } = quantised(values, side, side, bits);
    const moved = dequantise(plain, side, bits).map((value, i) => Math.abs(value - values[i]!));
    const step = Math.abs(plain.scales[0]!);
    const reach = step * (2 ** (bits - 1) - 1);
    for (const [i, distance] of moved.entries())
      if (Math.abs(values[i]!) <= reach) expect(distance).toBeLessThanOrEqual(step * 0.5001);
    const error = Math.hypot(...moved) / Math.hypot(...values);
    expect(error).toBeLessThan(bits === 8 ? 0.005 : 0.08);
  });

  test('tiles of zeros stay zeros', () => {
    const { plain, transposed } = quantised(new Float32Array(33 * 70), 33, 70, bits);
    expect(dequantise(plain, 70, bits).every((value) => value === 0)).toBe(true);
    expect(dequantise(transposed, 33, bits).every((value) => value === 0)).toBe(true);
  });
});

describe('cache', () => {
  test('the base is rounded once, in a file of its own, which appears whole', async () => {
    const model = await openModel(UNTIED);
    const cacheDir = await temporaryFolder();
    const { digest } = await describeBase(UNTIED);
    const { pid: gone } = spawnSync(process.execPath, ['-e', '']);
    await writeFile(join(cacheDir, `${digest}.q4v1.${gone}-0.partial`), 'abandoned');
    const [a, b] = await Promise.all([
      prepareWeights(model, cacheDir, { bits: 4 }),
      prepareWeights(model, cacheDir, { bits: 4 }),
    ]);
    expect(a).toEqual(b);
    expect(await readdir(cacheDir)).toEqual([`${digest}.q4v1`]);
    const past = new Date(1e9);
    await utimes(a.path, past, past);
    expect(await prepareWeights(model, cacheDir, { bits: 4 })).toEqual(a);
    expect((await stat(a.path)).mtimeMs, 'kept').toBe(past.getTime());
    const eight = await prepareWeights(model, cacheDir, { bits: 8 });
    expect(eight.path).not.toBe(a.path);
  });

  test('linear modules are rounded; embedding, output head, norms and biases are not', async () => {
    const model = await openModel(UNTIED);
    const { entries, quantised: rounded } = await prepareWeights(model, await temporaryFolder(), { bits: 8 });
    const { architecture, config } = model;
    const inside = architecture.linearModules(config).filter(({ name }) => name !== architecture.head);
    expect([...rounded!.keys()].sort()).toEqual(inside.map(({ name }) => `${name}.weight`).sort());
    expect(entries.has(architecture.embedding)).toBe(true);
    expect(entries.has(`${architecture.head}.weight`)).toBe(true);
    expect(entries.size + rounded!.size).toBe(architecture.parameters(config).length);
  });

  test('an aborted conversion leaves nothing', async () => {
    const model = await openModel(UNTIED);
    const cacheDir = await temporaryFolder();
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(prepareWeights(model, cacheDir, { bits: 8, signal })).rejects.toThrow();
    expect(await readdir(cacheDir)).toEqual([]);
  });
});
