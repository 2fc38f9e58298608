import { expect, test } from 'vitest';
import { silentLogger } from '../../monitor/logs/log.ts';
import { SimulatedSwarm } from './simulated-swarm.ts';

/** Seeds of every test run. To run one of them: `npx vitest run test/sim -t 'seed 17:'`. */
const SEEDS = 200;

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`seed ${seed}: each update is merged at most once, into one chain and one adapter`, async () => {
    const violations = await new SimulatedSwarm(seed, silentLogger).run();
    expect(violations, `seed ${seed}`).toEqual([]);
  });
}
