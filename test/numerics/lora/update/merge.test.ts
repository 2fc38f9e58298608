import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Contribution,
  capWeights,
  compressUpdate,
  Merge,
  medianNormClip,
  PRESET_NAMES,
  type SparseUpdate,
  stalenessWeight,
  toTensors,
  type UpdateLayout,
  updateNorms,
} from '../../../../lora/update/index.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { layoutOf, randomValues, VALUE_KINDS } from '../../../utils/swarm/updates.ts';

const layout = layoutOf([4500, 300, 1]);
const presets = fc.constantFrom(...PRESET_NAMES);
const f = Math.fround;

const rounds = fc
  .array(
    fc.record({
      preset: presets,
      kind: fc.constantFrom(...VALUE_KINDS),
      seed: fc.integer(),
      weight: fc.integer({ min: 1, max: 1_000_000 }),
      scale: fc.option(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3, maxLength: 3 }), {
        nil: undefined,
      }),
    }),
    { minLength: 1, maxLength: 6 },
  )
  .map((peers) =>
    peers.map(({ preset, kind, seed, weight, scale }, peer): Contribution => {
      const tensors = layout.map(({ shape }, tensor) => randomValues(shape[0]!, kind, seed + tensor));
      const { update } = compressUpdate(layout, tensors, preset);
      return { peer: `peer${peer}`, weight, update, ...(scale ? { scale } : {}) };
    }),
  );

function merged(contributions: readonly Contribution[], denominatorFloor?: number): Float32Array[] {
  const merge = new Merge({ layout, ...(denominatorFloor === undefined ? {} : { denominatorFloor }) });
  for (const contribution of contributions) merge.add(contribution);
  return merge.finish();
}

/** Computes the formula of docs/update-format.md coordinate by coordinate, with every operation rounded to float32. */
function reference(contributions: readonly Contribution[], floor = 0.25): Float32Array[] {
  const total = contributions.reduce((sum, { weight }) => f(sum + f(weight)), 0);
  return layout.map(({ shape }, tensor) =>
    Float32Array.from({ length: shape[0]! }, (_, index) => {
      let sum = 0;
      let senders = 0;
      for (const { weight, update, scale } of contributions) {
        const { indices, values } = update.tensors[tensor]!;
        const entry = indices === null ? index : indices.indexOf(index);
        if (entry < 0) continue;
        sum = f(sum + f(f(f(weight) * f(scale?.[tensor] ?? 1)) * values[entry]!));
        senders = f(senders + f(weight));
      }
      const denominator = Math.max(senders, f(f(floor) * total));
      return denominator > 0 ? f(sum / denominator) : 0;
    }),
  );
}

const same = (a: readonly Float32Array[], b: readonly Float32Array[]) =>
  a.every((values, tensor) => values.every((value, index) => value === b[tensor]![index]));

test('computes the formula bit for bit', () => {
  fc.assert(
    fc.property(rounds, fc.constantFrom(0, 0.25, 1), (contributions, floor) => {
      expect(same(merged(contributions, floor), reference(contributions, floor))).toBe(true);
    }),
    { numRuns: 25 },
  );
});

test('gives the same bits for the same updates in the same order', () => {
  fc.assert(
    fc.property(rounds, (contributions) => {
      expect(same(merged(contributions), merged(contributions))).toBe(true);
    }),
    { numRuns: 30 },
  );
});

test('differs only by the rounding of sums in another order', () => {
  fc.assert(
    fc.property(rounds, (contributions) => {
      const reversed = [...contributions]
        .reverse()
        .map((contribution, peer) => ({ ...contribution, peer: `peer${peer}` }));
      const [a, b] = [merged(contributions), merged(reversed)];
      const largest = Math.max(
        ...contributions.flatMap(({ update }) =>
          update.tensors.map(({ values }) => values.reduce((m, v) => Math.max(m, Math.abs(v)), 0)),
        ),
      );
      for (const [tensor, values] of a.entries()) {
        for (const [index, value] of values.entries()) {
          expect(Math.abs(value - b[tensor]![index]!)).toBeLessThanOrEqual(
            4 * contributions.length ** 2 * largest * 2 ** -23,
          );
        }
      }
    }),
    { numRuns: 30 },
  );
});

test('returns the update that all peers send', () => {
  const { update } = compressUpdate(
    layout,
    layout.map(({ shape }) => randomValues(shape[0]!, 'normal', 1)),
    'balanced',
  );
  const contributions = ['a', 'b', 'c', 'd'].map((peer) => ({ peer, weight: 1, update }));
  expect(same(merged(contributions), toTensors(layout, update))).toBe(true);
});

test('divides a coordinate with one sender by the floor of the total weight', () => {
  const one = layoutOf([1, 1]);
  const sends = (a: number, b: number): SparseUpdate => {
    const tensor = (value: number) => ({
      indices: value === 0 ? new Uint32Array() : Uint32Array.of(0),
      values: value === 0 ? new Float32Array() : Float32Array.of(value),
    });
    return { preset: 'tiny', tensors: [tensor(a), tensor(b)] };
  };
  const merge = new Merge({ layout: one });
  for (const [peer, update] of [
    sends(8, 1),
    sends(0, 1),
    sends(0, 1),
    sends(0, 1),
    sends(0, 1),
    sends(0, 1),
    sends(0, 1),
    sends(0, 1),
  ].entries()) {
    merge.add({ peer: `${peer}`, weight: 10, update });
  }
  // The weighted sum of a value is divided by the weight of the updates that have the value, or by a quarter of all
  // weight if that is more: 10·8 / max(10, 20) and 80·1 / max(80, 20).
  expect(merge.finish().map((values) => values[0])).toEqual([4, 1]);
});

describe('influence', () => {
  const honest = [1, 2, 3, 4].map(
    (seed) =>
      compressUpdate(
        layout,
        layout.map(({ shape }) => randomValues(shape[0]!, 'normal', seed)),
        'balanced',
      ).update,
  );
  const scaled = (update: SparseUpdate, factor: number): SparseUpdate => ({
    ...update,
    tensors: update.tensors.map(({ indices, values }) => ({
      indices,
      values: values.map((value) => factor * value),
    })),
  });
  const clipped = (updates: readonly SparseUpdate[]) => {
    const scales = medianNormClip(updates.map(updateNorms));
    return merged(
      updates.map((update, peer) => ({ peer: `${peer}`, weight: 1, update, scale: scales[peer]! })),
    );
  };

  test('an update multiplied by a thousand moves no tensor further than an honest one', () => {
    const attack = compressUpdate(
      layout,
      layout.map(({ shape }) => randomValues(shape[0]!, 'normal', 9)),
      'balanced',
    ).update;
    const clean = clipped(honest);
    const attacked = clipped([...honest, scaled(attack, -1000)]);
    const norms = honest.map(updateNorms);
    for (const tensor of layout.keys()) {
      const moved = Math.hypot(...attacked[tensor]!.map((value, index) => value - clean[tensor]![index]!));
      const largest = Math.max(...norms.map((norm) => norm[tensor]!));
      // The attacker's own part moves the tensor by at most the median norm, divided by the floor of the weight, 1.25. One
      // more norm is allowed, because the attack also changes the shares and the clipping of the honest updates.
      expect(moved).toBeLessThanOrEqual(largest * (1 / 1.25 + 1));
    }
    expect(Math.hypot(...attacked[0]!)).toBeLessThan(3 * Math.hypot(...clean[0]!));
  });

  test('clip factors reduce every tensor to the median norm and never enlarge it', () => {
    const updates = [scaled(honest[0]!, 0.1), honest[1]!, scaled(honest[2]!, 30), scaled(honest[3]!, 1e4)];
    const norms = updates.map(updateNorms);
    const scales = medianNormClip(norms);
    for (const tensor of layout.keys()) {
      const median = [...norms.map((norm) => norm[tensor]!)].sort((a, b) => a - b)[1]!;
      for (const [peer, scale] of scales.entries()) {
        expect(scale[tensor]).toBeLessThanOrEqual(1);
        expect(scale[tensor]! * norms[peer]![tensor]!).toBeLessThanOrEqual(median * (1 + 2 ** -23));
      }
      expect(scales[0]![tensor]).toBe(1);
      expect(scales[1]![tensor]).toBe(1);
    }
  });

  test('peers that do not send a tensor do not lower its median and are not scaled', () => {
    const [first, second] = medianNormClip([Float64Array.of(0, 2), Float64Array.of(5, 4)]);
    expect([...first!]).toEqual([1, 1]);
    expect([...second!]).toEqual([1, 0.5]);
    expect(medianNormClip([])).toEqual([]);
    expect(() => medianNormClip([Float64Array.of(1), Float64Array.of(1, 2)])).toThrow(
      withCode('UPDATE_SHAPE'),
    );
  });
});

test('token weights are capped at twice the lower median', () => {
  expect(capWeights([100, 120, 5000])).toEqual([100, 120, 240]);
  expect(capWeights([100, 5000])).toEqual([100, 200]);
  expect(capWeights([7])).toEqual([7]);
  expect(capWeights([])).toEqual([]);
  for (const bad of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => capWeights([1, bad])).toThrow(withCode('UPDATE_WEIGHT'));
  }
});

test('late updates have weight (1+τ)^−½', () => {
  expect([0, 3].map(stalenessWeight)).toEqual([1, 0.5]);
  expect(stalenessWeight(1)).toBe(f(Math.SQRT1_2));
  for (const bad of [-1, 0.5, Number.NaN]) {
    expect(() => stalenessWeight(bad)).toThrow(withCode('UPDATE_WEIGHT'));
  }
});

describe('refuses', () => {
  const { update } = compressUpdate(
    layout,
    layout.map(({ shape }) => new Float32Array(shape[0]!)),
    'tiny',
  );
  const add = (...contributions: Omit<Contribution, 'update'>[]) => {
    const merge = new Merge({ layout });
    for (const contribution of contributions) merge.add({ update, ...contribution });
    return merge;
  };

  test('a peer twice or out of order, and additions after the end', () => {
    expect(() => add({ peer: 'a', weight: 1 }, { peer: 'a', weight: 1 })).toThrow(withCode('UPDATE_ORDER'));
    expect(() => add({ peer: 'b', weight: 1 }, { peer: 'a', weight: 1 })).toThrow(withCode('UPDATE_ORDER'));
    expect(() => add({ peer: 'a', round: 4, weight: 1 }, { peer: 'a', round: 3, weight: 1 })).toThrow(
      withCode('UPDATE_ORDER'),
    );
    const merge = add(
      { peer: 'a', round: 3, weight: 1 },
      { peer: 'a', round: 4, weight: 1 },
      { peer: 'b', weight: 1 },
    );
    merge.finish();
    expect(() => merge.add({ peer: 'c', weight: 1, update })).toThrow(withCode('UPDATE_ORDER'));
    expect(() => merge.finish()).toThrow(withCode('UPDATE_ORDER'));
  });

  test('invalid weights, factors and floors', () => {
    for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => add({ peer: 'a', weight: bad })).toThrow(withCode('UPDATE_WEIGHT'));
      expect(() => add({ peer: 'a', weight: 1, scale: [1, bad, 1] })).toThrow(withCode('UPDATE_WEIGHT'));
    }
    for (const denominatorFloor of [-0.1, 1.5, Number.NaN]) {
      expect(() => new Merge({ layout, denominatorFloor })).toThrow(withCode('UPDATE_WEIGHT'));
    }
  });

  test('updates and factors with the wrong number of tensors', () => {
    const other: UpdateLayout = layoutOf([4]);
    const foreign = compressUpdate(other, [new Float32Array(4)], 'tiny').update;
    expect(() => new Merge({ layout }).add({ peer: 'a', weight: 1, update: foreign })).toThrow(
      withCode('UPDATE_SHAPE'),
    );
    expect(() => add({ peer: 'a', weight: 1, scale: [1] })).toThrow(withCode('UPDATE_SHAPE'));
  });
});

test('gives zeros for no updates and for empty updates', () => {
  expect(
    same(
      new Merge({ layout }).finish(),
      layout.map(({ shape }) => new Float32Array(shape[0]!)),
    ),
  ).toBe(true);
});
