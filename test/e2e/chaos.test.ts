import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type RoundReport, runChaos } from '../../scripts/chaos/run.ts';
import { temporaryFolder } from '../utils/folder.ts';

const SEED = 1;

it(`seed ${SEED}: a job survives kills, a partition, stopped processes and a damaged file`, async () => {
  const rounds: RoundReport[] = [];
  const folder = join(await temporaryFolder(), 'chaos');
  const options = {
    schedule: 'short',
    seed: SEED,
    rounds: 3,
    nodes: 3,
    localSteps: 12,
    tokens: 0,
    folder,
  };
  const { finished, problems, merged } = await runChaos(options, (round) => rounds.push(round));
  expect(problems, JSON.stringify(rounds)).toEqual([]);
  expect(finished).toBe(true);
  expect(rounds).toHaveLength(options.rounds);
  expect(merged).toBeGreaterThan(0);
}, 300_000);
