import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Combined, type CombineOptions, combine } from '../../../../lora/adapter/combine/combine.ts';
import { readCombinable, writeCombined } from '../../../../lora/adapter/combine/combined-folder.ts';
import type { CombineMethod } from '../../../../lora/adapter/combine/methods.ts';
import type { ModuleMatrices } from '../../../../lora/adapter/matrices.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';
import { smallPeftFolder } from '../../../utils/registry/registry.ts';
import { withCode } from '../../../utils/source/codes.ts';

type Values = { a: number[]; b: number[] };
type Modules = Record<string, Values>;
interface Reference {
  shapes: Record<string, { out: number; in: number }>;
  adapters: Record<string, { rank: number; scale: number; modules: Modules }>;
  cases: ({ adapters: string[]; weights: number[]; result: { rank: number; modules: Modules } } & Omit<
    CombineOptions,
    'uniform'
  >)[];
}

const reference: Reference = JSON.parse(await readFile(join(FIXTURES, 'combined-adapters.json'), 'utf8'));

/** The numbers of scripts/reference/make_combined.py. */
function counter(): () => number {
  let k = 0;
  return () => ((k++ * 7919 + 104_729) % 100_003) / 100_003;
}

function modulesOf({ rank, scale, modules }: Reference['adapters'][string]): ModuleMatrices[] {
  return Object.entries(modules).map(([name, { a, b }]) => ({
    name,
    rank,
    scale,
    isEmbedding: false,
    ...reference.shapes[name]!,
    a: Float32Array.from(a),
    b: Float32Array.from(b),
  }));
}

/** Returns scale·B A, row by row. */
function product({
  rank,
  in: width,
  out,
  scale,
  a,
  b,
}: Omit<ModuleMatrices, 'name' | 'isEmbedding'>): number[] {
  return Array.from({ length: out * width }, (_, at) => {
    const [i, j] = [Math.floor(at / width), at % width];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b[i * rank + r]! * a[r * width + j]!;
    return scale * sum;
  });
}

const distance = (one: ArrayLike<number>, two: ArrayLike<number>): number =>
  Math.max(...Array.from(one, (value, i) => Math.abs(value - two[i]!)));

describe('combined adapters equal those of PEFT 0.21.2', () => {
  it.each(reference.cases.map((one, i) => [`${one.method}, case ${i}`, one] as const))(
    '%s',
    async (_, one) => {
      const sources = one.adapters.map((label, i) => ({
        label,
        weight: one.weights[i]!,
        modules: modulesOf(reference.adapters[label]!),
      }));
      const combined = await combine(sources, { ...one, uniform: counter() });
      expect(combined.modules.map(({ name }) => name)).toEqual(Object.keys(one.result.modules).sort());
      for (const module of combined.modules) {
        const { a, b } = one.result.modules[module.name]!;
        // Signs of singular vectors are free, and PEFT pads with zeros at other places, so products are compared. PEFT
        // computes singular values in float32.
        const theirs = { ...module, rank: one.result.rank, a: Float32Array.from(a), b: Float32Array.from(b) };
        expect(distance(product(module), product(theirs))).toBeLessThan(2e-5);
        if (one.method === 'cat' || one.method === 'svd') continue;
        expect(distance(module.a, a)).toBeLessThan(5e-7);
        expect(distance(module.b, b)).toBeLessThan(5e-7);
      }
    },
  );
});

const values = (count: number) =>
  fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: count, maxLength: count });
const OUT = 5;
const IN = 4;
const anyModule = fc.integer({ min: 1, max: 3 }).chain((rank) =>
  fc.record({ a: values(rank * IN), b: values(OUT * rank), scale: fc.constantFrom(0.5, 2) }).map(
    ({ a, b, scale }): ModuleMatrices => ({
      name: 'q_proj',
      rank,
      in: IN,
      out: OUT,
      isEmbedding: false,
      scale,
      a: Float32Array.from(a),
      b: Float32Array.from(b),
    }),
  ),
);
const anySources = fc.array(
  fc.record({ weight: fc.double({ min: -2, max: 2, noNaN: true }), module: anyModule }),
  {
    minLength: 1,
    maxLength: 4,
  },
);

async function combined(
  method: CombineMethod,
  given: readonly { weight: number; module: ModuleMatrices }[],
  rank?: number,
) {
  const sources = given.map(({ weight, module }, i) => ({ label: `${i}`, weight, modules: [module] }));
  const { modules } = await combine(sources, { method, uniform: () => 0, rank });
  return modules[0]!;
}

describe('methods', () => {
  it('cat, and svd with a sufficient rank, give the sum of the changes (property)', async () => {
    await fc.assert(
      fc.asyncProperty(anySources, async (given) => {
        const sum = given
          .map(({ weight, module }) => product(module).map((value) => weight * value))
          .reduce((one, two) => one.map((value, i) => value + two[i]!));
        expect(distance(product(await combined('cat', given)), sum)).toBeLessThan(1e-4);
        expect(distance(product(await combined('svd', given, IN)), sum)).toBeLessThan(1e-4);
      }),
    );
  });

  it('svd is no worse than any of its inputs as an approximation of the sum (property)', async () => {
    await fc.assert(
      fc.asyncProperty(anySources, async (given) => {
        const sum = product(await combined('cat', given));
        const error = (one: number[]) => Math.hypot(...one.map((value, i) => value - sum[i]!));
        const rank = Math.max(...given.map(({ module }) => module.rank));
        const best = error(product(await combined('svd', given, rank)));
        for (const { weight, module } of given)
          expect(best).toBeLessThan(error(product(module).map((value) => weight * value)) + 1e-4);
      }),
    );
  });

  it('that combine A and B separately refuse adapters of different ranks', async () => {
    const [one, three] = ['one', 'three'].map((label) => ({
      label,
      weight: 1,
      modules: modulesOf(reference.adapters[label]!),
    }));
    for (const method of ['linear', 'ties', 'magnitude_prune', 'dare_linear', 'dare_ties'] as const) {
      await expect(combine([one!, three!], { method, uniform: counter() })).rejects.toMatchObject({
        code: 'COMBINE_RANKS',
        values: { module: 'q_proj', ranks: [2, 3] },
      });
    }
  });

  it('refuse modules of different shapes, which belong to different bases', async () => {
    const [module] = modulesOf(reference.adapters.one!);
    const other = { ...module!, in: 3 };
    const sources = [module!, other].map((one, i) => ({ label: `${i}`, weight: 1, modules: [one] }));
    await expect(combine(sources, { method: 'cat', uniform: counter() })).rejects.toMatchObject({
      code: 'COMBINE_SHAPES',
    });
  });

  it('end when the signal aborts', async () => {
    const sources = [{ label: 'one', weight: 1, modules: modulesOf(reference.adapters.one!) }];
    const controller = new AbortController();
    const running = combine(sources, { method: 'cat', uniform: counter(), signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(running).rejects.toBe(controller.signal.reason);
  });
});

describe('a folder of a combined adapter', () => {
  const base = { name: 'tiny', revision: null, digest: 'ba5e'.repeat(16) };
  it('can be read again, with the same change', async () => {
    const folders = await Promise.all([smallPeftFolder(1), smallPeftFolder(-3)]);
    const read = await Promise.all(folders.map(readCombinable));
    const sources = read.map(({ modules }, i) => ({ label: `${i}`, weight: 0.5, modules }));
    const whole: Combined = await combine(sources, { method: 'cat', uniform: () => 0 });
    const dir = join(await temporaryFolder(), 'combined');
    await writeCombined(dir, whole, read, base);
    const again = await readCombinable(dir);
    expect(again.targets).toEqual(['q_proj']);
    expect(again.modules.map(product)).toEqual(whole.modules.map(product));
    expect(again.modules[0]).toMatchObject({ rank: 2, scale: 1 });
  });

  it('is refused for an adapter with more than LoRA matrices', async () => {
    const dora = join(FIXTURES, 'adapters', 'dora');
    await expect(readCombinable(dora)).rejects.toEqual(withCode('COMBINE_PARTS'));
  });
});
