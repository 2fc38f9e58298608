import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compareAdapters,
  deltaNorm,
  effectiveRank,
  singularValues,
} from '../../../../lora/adapter/compare.ts';
import { type ModuleMatrices, readMatrices } from '../../../../lora/adapter/matrices.ts';
import { symmetricEigen } from '../../../../lora/adapter/symmetric-eigen.ts';
import { smallPeftFolder } from '../../../utils/registry/registry.ts';

const value = fc.integer({ min: -8, max: 8 }).map((n) => n / 4);

/** Modules of shape [out, in] with small values. */
function moduleOf(out: number, width: number): fc.Arbitrary<ModuleMatrices> {
  return fc.integer({ min: 1, max: 3 }).chain((rank) =>
    fc.record({
      name: fc.constant('layers.0.q_proj'),
      rank: fc.constant(rank),
      in: fc.constant(width),
      out: fc.constant(out),
      isEmbedding: fc.constant(false),
      scale: fc.constantFrom(0.5, 2),
      a: fc
        .array(value, { minLength: rank * width, maxLength: rank * width })
        .map((v) => Float32Array.from(v)),
      b: fc.array(value, { minLength: rank * out, maxLength: rank * out }).map((v) => Float32Array.from(v)),
    }),
  );
}

/** The product scale·B A, row by row. */
function product({ rank, in: width, out, scale, a, b }: ModuleMatrices): number[] {
  return Array.from({ length: out * width }, (_, at) => {
    const [row, column] = [Math.floor(at / width), at % width];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b[row * rank + r]! * a[r * width + column]!;
    return scale * sum;
  });
}

const dot = (x: readonly number[], y: readonly number[]): number =>
  x.reduce((sum, v, i) => sum + v * y[i]!, 0);

describe('the comparison of adapters', () => {
  it('gives the norms, the cosine and the difference of the products, without computing them', async () => {
    await fc.assert(
      fc.asyncProperty(moduleOf(5, 4), moduleOf(5, 4), async (first, second) => {
        const [one, two] = [product(first), product(second)];
        const [compared] = await compareAdapters([first], [second]);
        const { norm, cosine, difference } = compared!;
        expect(norm[0]).toBeCloseTo(Math.sqrt(dot(one, one)), 6);
        expect(norm[1]).toBeCloseTo(Math.sqrt(dot(two, two)), 6);
        const apart = one.map((v, i) => v - two[i]!);
        expect(difference).toBeCloseTo(Math.sqrt(dot(apart, apart)), 5);
        if (norm[0] < 1e-9 || norm[1] < 1e-9) expect(cosine).toBeNull();
        else expect(cosine).toBeCloseTo(dot(one, two) / Math.sqrt(dot(one, one) * dot(two, two)), 6);
      }),
    );
  });

  it('gives 0 as the difference of equal changes', async () => {
    await fc.assert(
      fc.asyncProperty(moduleOf(5, 4), async (module) => {
        const [compared] = await compareAdapters([module], [module]);
        expect(compared!.difference).toBe(0);
      }),
    );
  });

  it('gives the singular values of the product', () => {
    fc.assert(
      fc.property(moduleOf(5, 4), (module) => {
        const singular = singularValues(module);
        const full = product(module);
        // The squares are the eigenvalues of ΔWᵀ ΔW.
        const gram = new Float64Array(16);
        for (let i = 0; i < 4; i++)
          for (let j = 0; j < 4; j++)
            for (let row = 0; row < 5; row++) gram[i * 4 + j]! += full[row * 4 + i]! * full[row * 4 + j]!;
        const expected = symmetricEigen(gram, 4)
          .values.map((v) => Math.sqrt(Math.max(0, v)))
          .sort((x, y) => y - x);
        for (const [i, v] of singular.entries()) expect(v).toBeCloseTo(expected[i] ?? 0, 4);
        expect(Math.hypot(...singular)).toBeCloseTo(deltaNorm(module), 6);
      }),
    );
  });

  it('gives an effective rank of k for k equal singular values, and 0 for no change', () => {
    const identity = { name: 'm', rank: 3, in: 3, out: 3, isEmbedding: false, scale: 2 };
    const eye = Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1);
    expect(effectiveRank({ ...identity, a: eye, b: eye })).toBeCloseTo(3, 10);
    expect(effectiveRank({ ...identity, a: eye, b: Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0) })).toBeCloseTo(
      1,
    );
    expect(effectiveRank({ ...identity, a: eye, b: new Float32Array(9) })).toBe(0);
    expect(effectiveRank(null)).toBe(0);
  });

  it('lists modules that only one adapter changes, and reads a PEFT folder without its base', async () => {
    const [module] = await readMatrices(await smallPeftFolder(3));
    expect(module).toMatchObject({
      name: 'model.layers.0.self_attn.q_proj',
      rank: 1,
      in: 2,
      out: 2,
      scale: 1,
    });
    expect(await compareAdapters([module!], [])).toMatchObject([
      { rank: [1, null], norm: [3 * Math.sqrt(10), 0], cosine: null },
    ]);
  });

  it.each([
    ['lora_alpha', { lora_alpha: 'high' }],
    ['alpha_pattern.q_proj', { alpha_pattern: { k_proj: 2, q_proj: null } }],
  ])('refuses a PEFT folder in whose config %s is not a number', async (field, change) => {
    const folder = await smallPeftFolder(3);
    const path = join(folder, 'adapter_config.json');
    const config = JSON.parse(await readFile(path, 'utf8'));
    await writeFile(path, JSON.stringify({ ...config, ...change }));
    await expect(readMatrices(folder)).rejects.toMatchObject({ code: 'ADAPTER_CONFIG', values: { field } });
  });

  it('ends when the signal aborts', async () => {
    const [module] = await readMatrices(await smallPeftFolder(3));
    const controller = new AbortController();
    const running = compareAdapters([module!], [module!], { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(running).rejects.toBe(controller.signal.reason);
  });
});

describe('eigenvalues of symmetric matrices', () => {
  it('come with vectors that give the matrix back', () => {
    fc.assert(
      fc.property(fc.array(value, { minLength: 16, maxLength: 16 }), (entries) => {
        const n = 4;
        const matrix = new Float64Array(n * n);
        for (let i = 0; i < n; i++)
          for (let j = 0; j <= i; j++) matrix[i * n + j] = matrix[j * n + i] = entries[i * n + j]!;
        const { values, vectors } = symmetricEigen(matrix, n);
        for (let i = 0; i < n; i++)
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let k = 0; k < n; k++) sum += vectors[i * n + k]! * values[k]! * vectors[j * n + k]!;
            expect(sum).toBeCloseTo(matrix[i * n + j]!, 10);
          }
      }),
    );
  });
});
