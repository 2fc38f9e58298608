import { describe, expect, test } from 'vitest';
import { type Behaviour, playRounds, type Spreads } from './modelled-swarm.ts';

const SWARMS = 15;
const NODES = 10;
const ROUNDS = 18;
/** Number of attacks after which an attacker should have no weight. */
const TARGET = 3;
/** Spreads of honest scores, as in honest-nodes.test.ts. */
const SPREADS = { effect: 0.2, gain: 0.35, noise: 0.1 };

/**
 * Mean and standard deviation of effect and gain, relative to honest nodes, as decision 051 measured them. `most`: limit of
 * the weight for an attacker that attacks in each round, and for one that is honest in the two rounds before.
 */
const ATTACKS = {
  'sign flip': { effect: [-1, 0.16], gain: [-0.55, 0.18], most: [0, 0] },
  'a tenth of the steps': { effect: [0.05, 0.02], gain: [0.05, 0.03], most: [0, 0.01] },
  'constant labels': { effect: [0.3, 0.2], gain: [-0.17, 0.25], most: [0.02, 0.15] },
  'shuffled labels': { effect: [0.54, 0.2], gain: [0.06, 0.35], most: [0.15, 0.5] },
  'copy with noise': { effect: [0.84, 0.15], gain: [-0.21, 0.33], most: [0.05, 0.25] },
  ALIE: { effect: [0.94, 0.2], gain: [-0.15, 0.28], most: [0.05, 0.25] },
} as const;

/** Whether an attacker attacks in a round. */
const TIMES: Readonly<Record<string, (round: number) => boolean>> = {
  plain: () => true,
  'late-start': (round) => round > 5,
  'on-off': (round) => round % 3 === 0,
};

/**
 * Returns the weight of the attackers in the merges after their first TARGET attacks, as a share of the weight that as
 * many honest nodes would have.
 */
function laterWeight(
  attack: keyof typeof ATTACKS,
  times: string,
  attackers: number,
  spreads: Spreads = SPREADS,
): number {
  const { effect, gain } = ATTACKS[attack];
  const attacks = TIMES[times]!;
  const behaviour: Behaviour = (round, normal) =>
    attacks(round) ? { effect: effect[0] + effect[1] * normal(), gain: gain[0] + gain[1] * normal() } : null;
  const others = Array.from({ length: attackers }, () => behaviour);
  const later = Array.from({ length: ROUNDS }, (_, i) => i + 1)
    .filter(attacks)
    .slice(TARGET);
  const weights = Array.from({ length: SWARMS }, (_, i) => {
    const nodes = playRounds({ honest: NODES - attackers, others, rounds: ROUNDS, seed: i + 1 }, spreads);
    const honest = nodes.slice(0, NODES - attackers);
    expect(honest.filter(({ suspended }) => suspended.length > 0)).toEqual([]);
    const bad = nodes.slice(NODES - attackers);
    return later.map((round) => bad.reduce((sum, { weights }) => sum + weights[round - 1]!, 0));
  }).flat();
  return weights.reduce((sum, weight) => sum + weight, 0) / weights.length / (attackers / NODES);
}

describe(`the weight of one to three of ${NODES} nodes after ${TARGET} attacks, over ${SWARMS} modelled swarms`, () => {
  for (const attack of Object.keys(ATTACKS) as (keyof typeof ATTACKS)[]) {
    for (const times of Object.keys(TIMES)) {
      test(`${attack}, ${times}`, () => {
        const [always, onOff] = ATTACKS[attack].most;
        const most = times === 'on-off' ? onOff : always;
        for (const attackers of [1, 2, 3]) {
          expect(laterWeight(attack, times, attackers), `${attackers} attackers`).toBeLessThanOrEqual(most);
        }
      });
    }
  }
});

test('where the effects are noise because a job has almost converged, on-off attackers have as little weight', () => {
  const spreads = { ...SPREADS, noise: 1, gainOverEffect: 20 };
  for (const attack of Object.keys(ATTACKS) as (keyof typeof ATTACKS)[]) {
    // Before a low gain alone could remove the weight of an update, these attackers kept 0.5 to 0.8 of the weight of
    // honest nodes.
    expect(laterWeight(attack, 'on-off', 3, spreads), attack).toBeLessThanOrEqual(ATTACKS[attack].most[1]);
  }
});
