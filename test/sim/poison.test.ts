import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { meanLoss } from '../../coordinator/merge/comparison.ts';
import type { Row } from '../../lora/data/row.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { prepare } from '../../scripts/bench/learning.ts';
import type { PoisonOutcome } from '../../scripts/bench/poison-outcome.ts';
import type { PoisonRun } from '../../scripts/bench/poison-run.ts';
import { runPoisoned } from '../../scripts/bench/poison-swarm.ts';
import { SharedTrainer } from '../../scripts/bench/poison-trainer.ts';

const ROUNDS = 3;
const CLEAN: PoisonRun = {
  attack: 'none',
  attackers: 0,
  behaviour: 'plain',
  split: 'even',
  seed: 1,
  rounds: ROUNDS,
  honest: 4,
  steps: 4,
  unequal: false,
};

let folder: string;
let trainer: Trainer;
let deps: { trainer: SharedTrainer; rows: readonly Row[]; gateRows: readonly Row[] };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swarm-test-'));
  const found = await prepare(folder);
  trainer = found.trainer;
  deps = { trainer: new SharedTrainer(trainer), rows: found.rows, gateRows: found.heldOut.slice(0, 16) };
});

afterAll(async () => {
  await trainer.dispose();
  await rm(folder, { recursive: true, force: true });
});

const lossOf = async (adapter: readonly Float32Array[]) =>
  meanLoss(await deps.trainer.evaluate(adapter, deps.gateRows))!;

/** Runs a swarm in which a third of the nodes attack, and a clean run without them. Checks what holds for all attacks. */
async function attacked(attack: string, settings: Partial<PoisonRun>): Promise<PoisonOutcome> {
  const clean = await runPoisoned({ ...CLEAN, ...settings, behaviour: 'plain' }, deps);
  const outcome = await runPoisoned({ ...CLEAN, ...settings, attack, attackers: 2 }, deps);
  expect(outcome.phase).toBe('finished');
  expect(outcome.excluded).toBe(0);
  expect(outcome.strikes.honest).toEqual({});
  expect(outcome.receipts.honest).toEqual({ accepted: ROUNDS * CLEAN.honest });
  expect(await lossOf(outcome.adapter)).toBeLessThan(1.01 * (await lossOf(clean.adapter)));
  return outcome;
}

test('nodes that train models/nano keep learning while a third of them lies and claims to be fast', async () => {
  const { attackers } = await attacked('sign flip + zeros', { behaviour: 'fast' });
  expect(attackers.map(({ weightlessAfter }) => weightlessAfter)).toEqual([0, 0]);
}, 240_000);

test('nodes with books of their own keep learning while others train on constant labels or copy', async () => {
  const { rounds } = await attacked('constant labels + copy', { split: 'own-book' });
  expect(rounds.at(-1)!.share).toBeLessThan(0.1);
}, 240_000);
