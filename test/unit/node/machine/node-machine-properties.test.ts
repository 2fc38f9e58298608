import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NodeModel } from './node-model.ts';

/** Anything that can happen to a node. `index` chooses one of the running effects, heads or receipts that exist then. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant('finish'), index: fc.nat(5), well: fc.boolean() }) },
  { weight: 16, arbitrary: fc.constant({ type: 'finish', index: 0, well: true }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('close'), how: fc.constantFrom('merge', 'leave-out', 'null') }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('hear'), index: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.constant({ type: 'hear', index: 0 }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('notice'), index: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('tick'), ms: fc.nat(20_000) }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('phase'), phase: fc.constantFrom('paused', 'training') }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('assign'), assigned: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('refuse'), refusing: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ type: 'build-anyway' }) },
  { weight: 1, arbitrary: fc.constantFrom({ type: 'connected' }, { type: 'admitted' }) },
  { weight: 1, arbitrary: fc.constant({ type: 'crash' }) },
);

type Step = {
  type: string;
  index?: number;
  well?: boolean;
  how?: string;
  ms?: number;
  phase?: string;
  assigned?: boolean;
  refusing?: boolean;
};

function play(model: NodeModel, steps: readonly Step[]): void {
  const { coordinator } = model;
  const announce = (): void => {
    model.heads.push(coordinator.head);
  };
  for (const { type, index = 0, well = true, how, ms = 0, phase, assigned, refusing } of steps) {
    if (type === 'finish') model.finish(index, well);
    if (type === 'tick') model.tick(ms);
    if (type === 'crash') model.crash();
    if (type === 'connected' || type === 'admitted') model.send({ type });
    if (type === 'build-anyway') model.buildAnyway();
    if (type === 'assign') coordinator.assigned = assigned!;
    if (type === 'refuse') coordinator.refusing = refusing!;
    if (type === 'close' && coordinator.phase === 'training') {
      coordinator.close(how as 'merge', false);
      announce();
    }
    if (type === 'phase') {
      coordinator.phase = phase as 'paused';
      coordinator.sequence++;
      announce();
    }
    if (type === 'hear')
      model.send({ type: 'head', head: model.heads.at(-1 - (index % model.heads.length))! });
    if (type === 'notice' && model.notices.length > 0) {
      model.send({ type: 'receipt', ...model.notices[index % model.notices.length]!, generation: null });
    }
  }
}

test('property: one update per round, and error feedback loses nothing and restores nothing twice', () => {
  let built = 0;
  let restored = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 250 }), (steps) => {
      const model = new NodeModel();
      play(model, steps as Step[]);
      model.settle();
      const updates = [...model.disk.updates.values()];
      built += updates.length;
      restored += updates.filter(({ outcome }) => outcome === 'restored').length;
    }),
    { numRuns: 1500 },
  );
  // The property would hold trivially for a node that never builds an update.
  expect(built).toBeGreaterThan(1500);
  expect(restored).toBeGreaterThan(200);
});
