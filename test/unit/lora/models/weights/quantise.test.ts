import { spawnSync } from 'node:child_process';
import { readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describeBase } from '../../../../../lora/models/base/base-identity.ts';
import { openBase } from '../../../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { createQuantiser } from '../../../../../lora/models/weights/quantise.ts';
import { LARGEST_INT8 } from '../../../../../lora/models/weights/quantise-rows.ts';
import { TableQuantiser } from '../../../../../lora/models/weights/quantise-table.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { numbers } from '../../../../utils/models/graphs.ts';
import { dequantise } from '../../../../utils/models/quantised.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';

const UNTIED = join(FIXTURES, 'llama-tiny-untied');
const BITS = [4, 8] as const;
/** Side of a tile at 4 bits. */
const SIDE = 32;

function quantised(values: Float32Array, rows: number, columns: number, bits: 4 | 8, piece = values.length) {
  const quantiser = createQuantiser(rows, columns, bits);
  for (let i = 0; i < values.length; i += piece) quantiser.add(values.subarray(i, i + piece));
  return quantiser.finish();
}

const size = fc.integer({ min: 1, max: 150 });
const sizes = [size, size, fc.integer(), fc.integer({ min: 1, max: 999 })] as const;

test('4 bits: W and its transpose have the same values, for any sizes and pieces', () => {
  const property = fc.property(...sizes, (r, c, seed, n) => {
    const { plain, transposed } = quantised(numbers(r * c, seed), r, c, 4, n);
    const w = dequantise(plain, c, 4);
    const turned = dequantise(transposed, r, 4);
    return w.every((value, at) => value === turned[(at % c) * r + Math.floor(at / c)]);
  });
  fc.assert(property, { numRuns: 40 });
});

test('8 bits: both copies have the same integers and scales', () => {
  const property = fc.property(...sizes, (r, c, seed, n) => {
    const { plain, transposed } = quantised(numbers(r * c, seed), r, c, 8, n);
    if (plain.scales !== transposed.scales || plain.scales.length !== r) return false;
    const inRange = new Int8Array(plain.codes.buffer).every((number) => Math.abs(number) <= LARGEST_INT8);
    return (
      inRange && plain.codes.every((code, at) => code === transposed.codes[(at % c) * r + Math.floor(at / c)])
    );
  });
  fc.assert(property, { numRuns: 40 });
});

describe.each(BITS)('%i bits', (bits) => {
  test('no weight changes by more than half a step, except those that 4 bits clip', () => {
    const values = numbers(SIDE * SIDE, 7);
    const { plain } = quantised(values, SIDE, SIDE, bits);
    const moved = dequantise(plain, SIDE, bits).map((value, i) => Math.abs(value - values[i]!));
    for (const [i, distance] of moved.entries()) {
      const step = Math.abs(plain.scales[Math.floor(i / SIDE)]!);
      if (Math.abs(values[i]!) <= step * (bits === 4 ? 7 : LARGEST_INT8))
        expect(distance).toBeLessThanOrEqual(step * 0.5001);
    }
    expect(Math.hypot(...moved) / Math.hypot(...values)).toBeLessThan(bits === 8 ? 0.01 : 0.08);
  });

  test('zeros stay zeros', () => {
    const { plain, transposed } = quantised(new Float32Array(33 * 70), 33, 70, bits);
    expect(dequantise(plain, 70, bits).every((value) => value === 0)).toBe(true);
    expect(transposed.scales.every((value) => value === 0)).toBe(true);
  });
});

test('a table: no value changes by more than half a step of its row, for any sizes and pieces', () => {
  const property = fc.property(...sizes, (rows, columns, seed, piece) => {
    const values = numbers(rows * columns, seed);
    const quantiser = new TableQuantiser(rows, columns);
    const codes: number[] = [];
    for (let i = 0; i < values.length; i += piece)
      codes.push(...quantiser.add(values.subarray(i, i + piece)));
    if (codes.length !== values.length) return false;
    return values.every((value, i) => {
      const step = quantiser.scales[Math.floor(i / columns)]!;
      return Math.abs(value - codes[i]! * step) <= step * 0.5001;
    });
  });
  fc.assert(property, { numRuns: 40 });
  const zeros = new TableQuantiser(2, 3);
  expect(zeros.add(new Float32Array(6))).toEqual(new Int8Array(6));
  expect(zeros.scales).toEqual(new Float32Array(2));
});

describe('cache', () => {
  test('the base is quantised once, into a file that appears complete', async () => {
    const model = await openBase(UNTIED);
    const cacheDir = await temporaryFolder();
    const { digest } = await describeBase(UNTIED);
    const { pid: gone } = spawnSync(process.execPath, ['-e', '']);
    await writeFile(join(cacheDir, `${digest}.q4v4.${gone}-0.partial`), 'abandoned');
    const [a, b] = await Promise.all([
      prepareWeights(model, cacheDir, { bits: 4 }),
      prepareWeights(model, cacheDir, { bits: 4 }),
    ]);
    expect(a).toEqual(b);
    expect(await readdir(cacheDir)).toEqual([`${digest}.q4v4`]);
    const past = new Date(1e9);
    await utimes(a.path, past, past);
    expect(await prepareWeights(model, cacheDir, { bits: 4 })).toEqual(a);
    expect((await stat(a.path)).mtimeMs, 'kept').toBe(past.getTime());
    const eight = await prepareWeights(model, cacheDir, { bits: 8 });
    expect(eight.path).not.toBe(a.path);
  });

  test.each([32, 4] as const)(
    'deletes outdated files of every base, also when preparing %i bits',
    async (bits) => {
      const model = await openBase(UNTIED);
      const cacheDir = await temporaryFolder();
      const { digest } = await describeBase(UNTIED);
      const another = digest.replace(/^./, (first) => (first === 'a' ? 'b' : 'a'));
      const gone = 4_194_305; // Larger than any process id on Linux.
      const old = [`${digest}.q4v2`, `${digest}.q8v1`, `${another}.q4v2`];
      const abandoned = [
        `${another}.q4v2.${gone}-0.partial`,
        `${digest}.q8v4.${gone}-7.partial`,
        `${another}.f32.${gone}-1.partial`,
      ];
      const others = [
        ...[`${another}.f32`, `${digest}.q4v99`, `${digest.replace(/^./, 'z')}.q4v2`, `${digest}.q4v2.txt`],
        ...[
          `${another}.q4v2.${process.pid}-0.partial`,
          `notes.${gone}-0.partial`,
          `x.q4v2.${gone}-0.partial`,
        ],
      ];
      const past = new Date(Date.now() - 2 * 3_600_000);
      for (const name of [...old, ...abandoned, ...others]) {
        await writeFile(join(cacheDir, name), '');
        await utimes(join(cacheDir, name), past, past);
      }
      // A process in another container still writes this file, so its process id means nothing on this machine.
      const living = `${another}.q4v4.${gone}-2.partial`;
      await writeFile(join(cacheDir, living), '');
      await prepareWeights(model, cacheDir, { bits });
      const made = `${digest}.${bits === 32 ? 'f32' : 'q4v4'}`;
      expect((await readdir(cacheDir)).sort()).toEqual([...others, living, made].sort());
    },
  );

  test('quantises linear modules, makes embedding and output head tables, keeps norms and biases', async () => {
    const model = await openBase(UNTIED);
    const prepared = await prepareWeights(model, await temporaryFolder(), { bits: 8 });
    const { entries, quantised: rounded, tables } = prepared;
    const { architecture, config } = model;
    const inside = architecture.linearModules(config).filter(({ name }) => name !== architecture.head);
    expect([...rounded!.keys()].sort()).toEqual(inside.map(({ name }) => `${name}.weight`).sort());
    expect([...tables!.keys()].sort()).toEqual(
      [architecture.embedding, `${architecture.head}.weight`].sort(),
    );
    expect(entries.size + rounded!.size + tables!.size).toBe(architecture.parameters(config).length);
  });

  test('an aborted conversion leaves no file', async () => {
    const model = await openBase(UNTIED);
    const cacheDir = await temporaryFolder();
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(prepareWeights(model, cacheDir, { bits: 8, signal })).rejects.toThrow();
    expect(await readdir(cacheDir)).toEqual([]);
  });
});
