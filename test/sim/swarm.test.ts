import { expect, test } from 'vitest';
import { silentLogger } from '../../monitor/log.ts';
import { SimulatedSwarm } from './simulated-swarm.ts';

/** Seeds that every run of the tests goes through. One alone: `npx vitest run test/sim -t 'seed 17:'`. */
const SEEDS = 200;

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`seed ${seed}: exactly-once merge, one chain, one adapter`, async () => {
    const violations = await new SimulatedSwarm(seed, silentLogger).run();
    expect(violations, `seed ${seed}`).toEqual([]);
  });
}
