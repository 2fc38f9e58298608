import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { meanLoss } from '../../coordinator/merge/comparison.ts';
import type { Row } from '../../lora/data/row.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { prepare } from '../../scripts/bench/learning.ts';
import { type PoisonRun, runPoisoned } from '../../scripts/bench/poison-swarm.ts';
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

test('nodes that train models/nano learn on while a third of them lies and claims to be fast', async () => {
  const lossOf = async (adapter: readonly Float32Array[]) =>
    meanLoss(await deps.trainer.evaluate(adapter, deps.gateRows))!;
  const clean = await runPoisoned(CLEAN, deps);
  const poisoned = await runPoisoned(
    { ...CLEAN, attack: 'sign flip + zeros', attackers: 2, behaviour: 'fast' },
    deps,
  );
  expect(poisoned.phase).toBe('finished');
  expect(poisoned.attackers.map(({ weightlessAfter }) => weightlessAfter)).toEqual([0, 0]);
  expect(poisoned.excluded).toBe(0);
  expect(poisoned.receipts.honest).toEqual({ accepted: ROUNDS * CLEAN.honest });
  expect(await lossOf(poisoned.adapter)).toBeLessThan(1.01 * (await lossOf(clean.adapter)));
}, 120_000);
