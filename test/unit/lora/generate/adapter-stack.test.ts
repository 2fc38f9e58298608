import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AdapterStack, type ServedModule } from '../../../../lora/generate/adapters.ts';

const MODULES = new Map([
  ['up', { in: 3, out: 2 }],
  ['down', { in: 2, out: 3 }],
]);

/** An adapter whose values all equal `value`, for some of the modules. */
function adapterOf(id: number, rank: number, names: readonly string[]) {
  const value = id + 1;
  const moduleOf = (name: string): ServedModule => {
    const { in: width, out } = MODULES.get(name)!;
    return {
      in: width,
      out,
      a: new Float32Array(rank * width).fill(value),
      b: new Float32Array(rank * out).fill(value),
    };
  };
  return { id: `adapter ${id}`, rank, modules: new Map(names.map((name) => [name, moduleOf(name)])) };
}

/** Adapters with different ids and ranks, in the groups in which they are added. Some lack a module. */
const GROUPS = fc
  .array(
    fc.record({
      rank: fc.integer({ min: 1, max: 5 }),
      names: fc.subarray([...MODULES.keys()]),
      group: fc.nat(3),
    }),
    { minLength: 1, maxLength: 9 },
  )
  .map((list) => list.map(({ rank, names, group }, id) => ({ adapter: adapterOf(id, rank, names), group })));

test('holds the matrices of all adapters, whatever the order and number in which they were added', () => {
  fc.assert(
    fc.property(GROUPS, (list) => {
      const stack = new AdapterStack(MODULES);
      for (let group = 0; group <= 3; group++)
        stack.add(list.filter((entry) => entry.group === group).map(({ adapter }) => adapter));
      const rank = list.reduce((sum, { adapter }) => sum + adapter.rank, 0);
      expect(stack.rankWith([])).toBe(rank);
      for (const { adapter } of list) {
        const feeds = stack.feeds([null, adapter]);
        const mask = feeds.adapters!.data as Float32Array;
        expect(feeds.adapters!.dims).toEqual([2, rank]);
        expect(mask.subarray(0, rank).every((value) => value === 0)).toBe(true);
        const own = Array.from({ length: rank }, (_, i) => i).filter((i) => mask[rank + i] === 1);
        expect(own).toHaveLength(adapter.rank);
        for (const [name, { in: width, out }] of MODULES) {
          for (const [key, columns] of [
            [`A:${name}`, width],
            [`B:${name}`, out],
          ] as const) {
            expect(feeds[key]!.dims).toEqual([rank, columns]);
            const matrix = feeds[key]!.data as Float32Array;
            const expected = adapter.modules.has(name) ? adapter.modules.get(name)!.a[0]! : 0;
            for (const i of own)
              expect(matrix.subarray(i * columns, (i + 1) * columns).every((v) => v === expected)).toBe(true);
          }
        }
      }
    }),
  );
});

test('does not copy the matrices of a single adapter, and never writes to them', () => {
  const [first, second] = [adapterOf(0, 4, ['up']), adapterOf(1, 2, ['up'])];
  const stack = new AdapterStack(MODULES);
  stack.add([first]);
  const { a } = first.modules.get('up')!;
  expect((stack.feeds([first])['A:up']!.data as Float32Array).buffer).toBe(a.buffer);
  stack.add([second]);
  expect(a.every((value) => value === 1)).toBe(true);
  expect(stack.rankWith([first, second])).toBe(6);
});
