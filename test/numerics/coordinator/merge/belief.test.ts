import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { meanLoss } from '../../../../coordinator/merge/comparison.ts';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import type { Row } from '../../../../lora/data/row.ts';
import { SeededRandom } from '../../../../lora/data/seeded-random.ts';
import {
  decodeUpdate,
  encodeUpdate,
  medianNormClip,
  type SparseUpdate,
  updateNorms,
} from '../../../../lora/update/index.ts';
import { withUpdate } from '../../../../lora/update/score.ts';
import { beliefOf, gainErrorOf, sharesOf } from '../../../../verify/scores/belief.ts';
import { TINY_LENGTH, type TinyDeps, tinyDeps, tinyTrainer } from '../../../utils/models/tiny-trainer.ts';
import { scoreUpdate } from '../../../utils/swarm/score-update.ts';

const OWN = 32;
const HONEST = 4;
/** Index of the node that makes one step and scales it up. */
const SCALED = HONEST + 3;

let dir: string;
let deps: TinyDeps;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'belief-'));
  deps = await tinyDeps(dir);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Returns rows of random tokens, of which a few are frequent. A node learns the frequencies, and its own rows by heart. */
function randomRows(count: number, vocabulary: number): Row[] {
  const random = new SeededRandom(3);
  const token = () => Math.floor(vocabulary * random.uniform() ** 3);
  return Array.from({ length: count }, () => {
    const ids = Uint32Array.from({ length: TINY_LENGTH }, token);
    const labels = Int32Array.from(ids, (_, i) => ids[i + 1] ?? -100);
    return { ids, labels, segments: new Uint16Array(TINY_LENGTH).fill(1) };
  });
}

test('with a real trainer, honest nodes are believed, and a sign flip, a lazy node and noise are not', async () => {
  const trainer = tinyTrainer(deps, { learningRate: 5e-3, warmupSteps: 0 });
  const { layout } = trainer;
  const rows = randomRows((HONEST + 2) * OWN, deps.model.config.vocabularySize);
  const interval = (node: number) => rows.slice(node * OWN, (node + 1) * OWN);
  const start = initialMatrices(layout, 1);
  const fresh = { step: 0, m: start.map(zeros), v: start.map(zeros) };
  const train = async (some: readonly Row[]): Promise<Float32Array[]> => {
    trainer.setParameters(start);
    trainer.setOptimizerState(fresh);
    await trainer.train({ rows: some, steps: some.length / 4 });
    const after = trainer.parameters();
    return start.map((values, t) => values.map((value, i) => value - after[t]![i]!));
  };
  const deltas: Float32Array[][] = [];
  for (let node = 0; node < HONEST; node++) deltas.push(await train(interval(node)));
  const flip = (await train(interval(HONEST))).map((values) => values.map((value) => -value));
  const lazy = await train(interval(HONEST).slice(0, 4));
  const scaled = lazy.map((values, t) => {
    const factor = norm(deltas[0]![t]!) / (norm(values) || 1);
    return values.map((value) => factor * value);
  });
  const random = new SeededRandom(5);
  const noise = deltas[0]!.map((values) => values.map((value) => Math.abs(value) * random.normal()));
  const updates: SparseUpdate[] = [...deltas, flip, lazy, noise, scaled].map((values) =>
    decodeUpdate(encodeUpdate(layout, values, 'dense').bytes, layout, 'dense'),
  );

  trainer.setParameters(start);
  const spare = rows.slice((HONEST + 1) * OWN);
  const gradients = [];
  for (let batch = 0; batch < 4; batch++) {
    gradients.push(await trainer.lossGradient(spare.slice(8 * batch, 8 * batch + 8)));
  }
  const scales = medianNormClip(updates.map(updateNorms));
  const scores = [];
  for (const [i, update] of updates.entries()) {
    const own = await trainer.lossGradient(interval(Math.min(i, HONEST)).slice(0, 16));
    scores.push(scoreUpdate(update, { random: gradients, own, scale: scales[i]! }));
  }
  const lossAt = async (adapter: readonly Float32Array[]): Promise<number> => {
    trainer.setParameters(adapter);
    return meanLoss(await trainer.evaluate(spare.slice(0, 16)))!;
  };
  const before = await lossAt(start);
  const exact: number[] = [];
  for (const [i, update] of updates.entries()) {
    exact.push(before - (await lossAt(withUpdate(start, update, scales[i]!))));
  }
  await trainer.dispose();

  const figures = scores.map(({ effect, effectError, gain }) => ({
    effect,
    effectError,
    gain,
    gainError: gainErrorOf(effectError, { ownRows: 16, randomRows: 32 }),
    earlier: [],
  }));
  const shares = sharesOf(figures.slice(0, SCALED))!;
  for (const share of shares.slice(0, HONEST)) expect(share).toBeGreaterThan(0.5);
  for (const share of shares.slice(HONEST)) expect(share).toBeLessThan(0.35);

  // The effect and gain of one scaled-up step are good to first order. But its exact effect is too small.
  const swarm = [...figures.slice(0, HONEST), figures[SCALED]!];
  const exactOf = (i: number) => ({ effect: exact[i < HONEST ? i : SCALED]!, steps: OWN / 4 });
  expect(sharesOf(swarm)![HONEST]).toBeGreaterThan(0.4);
  const measured = sharesOf(swarm.map((one, i) => ({ ...one, exact: exactOf(i) })))!;
  for (const share of measured.slice(0, HONEST)) expect(share).toBeGreaterThan(0.5);
  expect(measured[HONEST]).toBeLessThan(0.2);

  const { effect, effectError } = scores[HONEST]!;
  expect(effect + 2 * effectError, 'the sign flip is harmful').toBeLessThan(0);
  for (const score of scores.slice(0, HONEST)) expect(score.effect).toBeGreaterThan(2 * score.effectError);
  expect(beliefOf([shares[HONEST]!])).toBe(0);
});

function norm(values: Float32Array): number {
  return Math.hypot(...values);
}

function zeros({ length }: Float32Array): Float32Array {
  return new Float32Array(length);
}
