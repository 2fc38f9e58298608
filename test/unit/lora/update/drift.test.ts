import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  compressUpdate,
  drift,
  PRESET_NAMES,
  type Preset,
  toTensors,
  type UpdateLayout,
} from '../../../../lora/update/index.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { randomValues } from '../../../utils/swarm/updates.ts';

const module = (name: string, rank: number, inputs: number, outputs: number): UpdateLayout => [
  { name: `${name}.lora_A.weight`, shape: [rank, inputs] },
  { name: `${name}.lora_B.weight`, shape: [outputs, rank] },
];
const layout = [...module('q', 2, 9, 7), ...module('up', 3, 12, 20)];
const tensors = (seed: number, factor = 1) =>
  layout.map(({ shape }, tensor) =>
    randomValues(shape[0]! * shape[1]!, 'normal', seed + tensor).map((v) => factor * v),
  );

type Matrix = number[][];
const matrix = (values: Float32Array, columns: number): Matrix =>
  Array.from({ length: values.length / columns }, (_, row) => [
    ...values.subarray(row * columns, (row + 1) * columns),
  ]);
const product = (b: Matrix, a: Matrix): Matrix =>
  b.map((row) => a[0]!.map((_, column) => row.reduce((sum, value, k) => sum + value * a[k]![column]!, 0)));
const combine = (list: Matrix[], factors: number[]): Matrix =>
  list[0]!.map((row, i) => row.map((_, j) => list.reduce((sum, m, at) => sum + factors[at]! * m[i]![j]!, 0)));
const squared = (m: Matrix) => m.flat().reduce((sum, value) => sum + value * value, 0);

/** The drift, computed by forming every out × in matrix. */
function naive(adapter: Float32Array[], changes: Float32Array[][], weights: number[], at: number) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const shares = weights.map((weight) => weight / total);
  const of = (values: Float32Array, tensor: number) => matrix(values, layout[tensor]!.shape[1]!);
  const side = (tensor: number) =>
    changes.map((change) => combine([of(adapter[tensor]!, tensor), of(change[tensor]!, tensor)], [1, -1]));
  const [a, b] = [side(at), side(at + 1)];
  const exact = combine(
    b.map((matrixB, peer) => product(matrixB, a[peer]!)),
    shares,
  );
  const separate = product(combine(b, shares), combine(a, shares));
  const start = product(of(adapter[at + 1]!, at + 1), of(adapter[at]!, at));
  return {
    error: squared(combine([exact, separate], [1, -1])),
    move: squared(combine([exact, start], [1, -1])),
  };
}

test('equals the ratio that the formed matrices give', () => {
  const cases = fc.tuple(
    fc.constantFrom<Preset>(...PRESET_NAMES),
    fc.integer(),
    fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 2, maxLength: 5 }),
  );
  fc.assert(
    fc.property(cases, ([preset, seed, weights]) => {
      const adapter = tensors(seed, 3);
      const updates = weights.map(
        (_, peer) => compressUpdate(layout, tensors(seed + 100 + 10 * peer), preset).update,
      );
      const changes = updates.map((update) => toTensors(layout, update));
      const result = drift(layout, adapter, updates, weights);
      const [q, up] = [naive(adapter, changes, weights, 0), naive(adapter, changes, weights, 2)];
      expect(result.modules.get('q')).toBeCloseTo(Math.sqrt(q.error / q.move), 6);
      expect(result.modules.get('up')).toBeCloseTo(Math.sqrt(up.error / up.move), 6);
      expect(result.rho).toBeCloseTo(Math.sqrt((q.error + up.error) / (q.move + up.move)), 6);
    }),
    { numRuns: 60 },
  );
});

test('is zero for peers that agree, or that change only A or only B', () => {
  const adapter = tensors(1, 3);
  const agree = compressUpdate(layout, tensors(5), 'dense').update;
  expect(drift(layout, adapter, [agree, agree, agree], [1, 2, 3]).rho).toBeLessThan(1e-6);
  const only = (kind: string, seed: number) =>
    compressUpdate(
      layout,
      tensors(seed).map((values, at) => (layout[at]!.name.includes(kind) ? values : values.map(() => 0))),
      'dense',
    ).update;
  for (const kind of ['lora_A', 'lora_B']) {
    expect(drift(layout, adapter, [only(kind, 1), only(kind, 20)], [1, 1]).rho, kind).toBeLessThan(1e-6);
  }
  expect(drift(layout, adapter, [only('none', 1)], [1]).rho).toBe(0);
});

test('ignores magnitudes, biases and saved modules, whose average is exact', () => {
  const others: UpdateLayout = [
    { name: 'q.base_layer.bias', shape: [7] },
    { name: 'q.lora_magnitude_vector', shape: [7] },
    { name: 'lm_head.weight', shape: [20, 9] },
  ];
  const whole = [...layout, ...others];
  const valuesOf = (seed: number) =>
    whole.map(({ shape }, at) =>
      randomValues(
        shape.reduce((a, b) => a * b),
        'normal',
        seed + at,
      ),
    );
  const adapter = valuesOf(1).map((values) => values.map((value) => 3 * value));
  const [one, two] = [
    compressUpdate(whole, valuesOf(50), 'dense'),
    compressUpdate(whole, valuesOf(70), 'dense'),
  ];
  const all = drift(whole, adapter, [one.update, two.update], [1, 2]);
  const pairs = [one, two].map(({ update }) => ({
    ...update,
    tensors: update.tensors.slice(0, layout.length),
  }));
  expect(all).toEqual(drift(layout, adapter.slice(0, layout.length), pairs, [1, 2]));
  expect([...all.modules.keys()]).toEqual(['q', 'up']);
});

test('refuses layouts with unpaired tensors, and invalid weights', () => {
  const adapter = tensors(1);
  const { update } = compressUpdate(layout, adapter, 'dense');
  for (const weights of [[], [1, 1], [0], [-1], [Number.NaN]]) {
    expect(() => drift(layout, adapter, [update], weights)).toThrow(withCode('UPDATE_WEIGHT'));
  }
  const lonely = layout.slice(0, 1);
  const part = compressUpdate(lonely, adapter.slice(0, 1), 'dense').update;
  expect(() => drift(lonely, adapter.slice(0, 1), [part], [1])).toThrow(withCode('UPDATE_SHAPE'));
});
