import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NodeModel } from './node-model.ts';

/** Anything that can happen to a node, in any order. Numbers choose among what is there. */
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
  { weight: 1, arbitrary: fc.constant({ type: 'seal-anyway' }) },
  { weight: 1, arbitrary: fc.constant({ type: 'connected' }) },
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

function play(world: NodeModel, steps: readonly Step[]): void {
  const { judge } = world;
  const announce = (): void => {
    world.heads.push(judge.head);
  };
  for (const { type, index = 0, well = true, how, ms = 0, phase, assigned, refusing } of steps) {
    if (type === 'finish') world.finish(index, well);
    if (type === 'tick') world.tick(ms);
    if (type === 'crash') world.crash();
    if (type === 'connected') world.send({ type: 'connected' });
    if (type === 'seal-anyway') world.sealAnyway();
    if (type === 'assign') judge.assigned = assigned!;
    if (type === 'refuse') judge.refusing = refusing!;
    if (type === 'close' && judge.phase === 'training') {
      judge.close(how as 'merge', false);
      announce();
    }
    if (type === 'phase') {
      judge.phase = phase as 'paused';
      judge.sequence++;
      announce();
    }
    if (type === 'hear')
      world.send({ type: 'head', head: world.heads.at(-1 - (index % world.heads.length))! });
    if (type === 'notice' && world.notices.length > 0) {
      world.send({ type: 'receipt', ...world.notices[index % world.notices.length]!, asked: null });
    }
  }
}

test('whatever happens: one update per round, nothing lost from the error feedback, nothing put back twice', () => {
  let sealed = 0;
  let restored = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 250 }), (steps) => {
      const world = new NodeModel();
      play(world, steps as Step[]);
      world.settle();
      const updates = [...world.disk.updates.values()];
      sealed += updates.length;
      restored += updates.filter(({ outcome }) => outcome === 'restored').length;
    }),
    { numRuns: 1500 },
  );
  // The property would hold trivially for a node that never gets anywhere.
  expect(sealed).toBeGreaterThan(1500);
  expect(restored).toBeGreaterThan(200);
});
