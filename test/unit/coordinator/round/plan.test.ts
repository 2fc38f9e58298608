import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MIN_STEPS } from '../../../../coordinator/audits/verdict.ts';
import {
  MIN_STEPS_SHARE,
  NEWCOMER_PLACES,
  type PresentPeer,
  planRound,
  SPEED_MEDIANS,
} from '../../../../coordinator/round/plan.ts';
import { ROUND_PEERS } from '../../../../protocol/limits.ts';

const settings = { localSteps: 30, preset: 'auto', batchSize: 8 } as const;
const PROVEN = [1, 1, 1];

function node(speed: number, shares: readonly number[] = [], standing: PresentPeer['standing'] = 'good') {
  return { speed, shares, standing };
}

/** Returns the steps of each assigned node, in the order of the nodes' names. */
function stepsOf(present: Record<string, PresentPeer>): number[] {
  return planRound(present, 1, settings).assignments.map(({ steps }) => steps);
}

const anyPeer = fc.record({
  speed: fc.double({ min: 0, max: 1e9, noNaN: true }),
  shares: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 }),
  standing: fc.constantFrom('good' as const, 'good' as const, 'probation' as const, 'suspended' as const),
});
const anySwarm = fc.dictionary(fc.string({ minLength: 1, maxLength: 6 }), anyPeer, { maxKeys: 40 });

describe('planRound', () => {
  test('gives steps in proportion to speed, from a third of them to all', () => {
    // Node d has no measured speed, so it gets as many steps as a node with the median speed.
    expect(stepsOf({ a: node(1000), b: node(500), c: node(10), d: node(0) })).toEqual([30, 15, 10, 15]);
    const proven = { a: node(1000, PROVEN), b: node(500, PROVEN), c: node(10, PROVEN), d: node(0, PROVEN) };
    expect(stepsOf(proven)).toEqual([30, 15, 10, 15]);
  });

  test('gives all steps to every node when none was measured', () => {
    expect(stepsOf({ a: node(0), b: node(0) })).toEqual([30, 30]);
  });

  test('turns "auto" into dense below four nodes and into balanced from four on, and keeps other presets', () => {
    const [a, b, c, d] = [node(0), node(0), node(0), node(0)];
    expect(planRound({ a, b, c }, 1, settings).preset).toBe('dense');
    expect(planRound({ a, b, c, d }, 1, settings).preset).toBe('balanced');
    expect(planRound({ a }, 1, { ...settings, preset: 'tiny' }).preset).toBe('tiny');
  });

  test('lets all nodes take turns when a round cannot take all of them', () => {
    const present = Object.fromEntries(
      Array.from({ length: ROUND_PEERS + 100 }, (_, i) => [`peer-${i}`, node(0)]),
    );
    const seen = new Set<string>();
    for (let round = 1; round <= 2; round++) {
      const { assignments } = planRound(present, round, settings);
      expect(assignments).toHaveLength(ROUND_PEERS);
      for (const { peer } of assignments) seen.add(peer);
    }
    expect(seen.size).toBe(ROUND_PEERS + 100);
  });

  test('a crowd of new identities displaces no believed node', () => {
    const believed = Array.from({ length: 20 }, (_, i) => [`old-${i}`, node(100, PROVEN)] as const);
    const crowd = Array.from({ length: 3000 }, (_, i) => [`new-${i}`, node(0)] as const);
    for (const round of [1, 2, 7]) {
      const { assignments } = planRound(Object.fromEntries([...believed, ...crowd]), round, settings);
      expect(assignments).toHaveLength(ROUND_PEERS);
      expect(assignments.filter(({ peer }) => peer.startsWith('old-'))).toHaveLength(20);
    }
    // Believed nodes leave a part of the places to new ones.
    const many = Array.from({ length: 2 * ROUND_PEERS }, (_, i) => [`old-${i}`, node(100, PROVEN)] as const);
    const { assignments } = planRound(Object.fromEntries([...many, ...crowd]), 1, settings);
    const fresh = assignments.filter(({ peer }) => peer.startsWith('new-'));
    expect(fresh).toHaveLength(NEWCOMER_PLACES * ROUND_PEERS);
  });

  test('makes intervals without overlaps or gaps that hold exactly the rows of the steps (property)', () => {
    fc.assert(
      fc.property(
        anySwarm,
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 16 }),
        (given, localSteps, batchSize) => {
          const { assignments } = planRound(given, 1, { localSteps, batchSize, preset: 'auto' });
          let end = 0;
          for (const { start, end: next, steps } of assignments) {
            expect(start).toBe(end);
            expect(next - start).toBe(steps * batchSize);
            expect(steps).toBeLessThanOrEqual(localSteps);
            expect(steps).toBeGreaterThanOrEqual(Math.ceil(localSteps * MIN_STEPS_SHARE));
            end = next;
          }
          const assignable = Object.keys(given).filter((peer) => given[peer]!.standing !== 'suspended');
          expect(assignments.map(({ peer }) => peer)).toEqual(assignable.sort());
        },
      ),
    );
  });
});

describe('speed', () => {
  test('a node without earned belief changes no other node’s steps, however fast it seems (property)', () => {
    const shares = fc.oneof(fc.constant([]), fc.constant([0]), fc.constant([0, 0]), fc.constant([0, 0, 0]));
    const honest = fc.record({
      speed: fc.integer({ min: 1, max: 1000 }),
      shares: fc.constant([0.8, 0.9, 1]),
    });
    fc.assert(
      fc.property(
        fc.array(honest, { minLength: 1, maxLength: 12 }),
        fc.array(fc.record({ speed: fc.double({ min: 0, max: 1e12, noNaN: true }), shares }), {
          maxLength: 12,
        }),
        (good, liars) => {
          const swarm = Object.fromEntries(
            good.map((peer, i) => [`good-${i}`, { ...peer, standing: 'good' as const }]),
          );
          const crowd = Object.fromEntries(
            liars.map((peer, i) => [`liar-${i}`, { ...peer, standing: 'good' as const }]),
          );
          const steps = (present: Record<string, PresentPeer>) =>
            planRound(present, 1, settings)
              .assignments.filter(({ peer }) => peer.startsWith('good-'))
              .map(({ peer, steps }) => ({ peer, steps }));
          expect(steps({ ...swarm, ...crowd })).toEqual(steps(swarm));
        },
      ),
    );
  });

  test('a newcomer counts at most as fast as the median of the believed nodes', () => {
    const believed = { a: node(100, PROVEN), b: node(200, PROVEN), c: node(400, PROVEN) };
    expect(stepsOf({ ...believed, d: node(1e9) })).toEqual([
      10, 15, 30,
      // The newcomer counts with the median speed, which would give 15 steps. Its belief of 0.25 lowers them to the minimum.
      10,
    ]);
    expect(stepsOf({ ...believed, d: node(1e9, [1, 1]) })).toEqual([10, 15, 30, 15]);
  });

  test('a believed node counts no faster than the median after an update that was not believed', () => {
    const honest = { a: node(100, PROVEN), b: node(100, PROVEN), c: node(100, PROVEN) };
    expect(stepsOf({ ...honest, d: node(1e9, [0, 1, 1]) }).slice(0, 3)).toEqual([30, 30, 30]);
  });

  test('a proven node counts at most three times as fast as the median node', () => {
    const swarm = { a: node(100, PROVEN), b: node(100, PROVEN), c: node(80, PROVEN), d: node(1e9, PROVEN) };
    const plan = planRound(swarm, 1, { ...settings, localSteps: 300 });
    expect(SPEED_MEDIANS).toBe(3);
    expect(plan.assignments.map(({ steps }) => steps)).toEqual([100, 100, 100, 300]);
  });
});

describe('belief and standing', () => {
  test('a node with little belief gets fewer steps, and one without belief the least', () => {
    const swarm = {
      a: node(100, PROVEN),
      b: node(100, PROVEN),
      c: node(100, [0.65, 0.65, 0.65]),
      d: node(100, [0.3, 0.5, 0.4]),
      e: node(100, [0, 0, 0]),
      f: node(1e9, [0, 0, 0]),
    };
    expect(stepsOf(swarm)).toEqual([30, 30, 30, 20, 10, 10]);
  });

  test('a node on probation gets the fewest steps, also when no node has belief', () => {
    const swarm = { a: node(100, PROVEN), b: node(100, PROVEN, 'probation') };
    expect(stepsOf(swarm)).toEqual([30, 10]);
    expect(stepsOf({ a: node(0), b: node(0, [], 'probation') })).toEqual([30, 10]);
    expect(stepsOf({ a: node(0, [], 'probation') })).toEqual([10]);
  });

  test('a node on probation gets an interval that an audit can judge', () => {
    const steps = (localSteps: number): number[] =>
      planRound({ a: node(100, PROVEN), b: node(100, PROVEN, 'probation'), c: node(100, [0, 0, 0]) }, 1, {
        ...settings,
        localSteps,
      }).assignments.map((one) => one.steps);
    expect(steps(8)).toEqual([8, MIN_STEPS, 3]);
    expect(steps(30)).toEqual([30, 10, 10]);
    // A job with so few steps is not audited.
    expect(steps(4)).toEqual([4, 2, 2]);
  });

  test('suspended and banned nodes get no work', () => {
    const swarm = { a: node(100), b: node(100, PROVEN, 'suspended'), c: node(100, PROVEN, 'banned') };
    expect(planRound(swarm, 1, settings).assignments.map(({ peer }) => peer)).toEqual(['a']);
  });

  test('steps are finite for nodes whose belief is almost nothing', () => {
    expect(stepsOf({ a: node(100, [0.1, 0.1, 0.1]), b: node(50, [0.1, 0.1, 0.1]) })).toEqual([30, 30]);
  });
});
