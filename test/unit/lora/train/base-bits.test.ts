import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import type { Row } from '../../../../lora/data/row.ts';
import type { TrainerOptions } from '../../../../lora/train/messages.ts';
import { TrainerProcess } from '../../../../lora/train/supervisor.ts';
import { type TinyDeps, tinyDeps, tinyRows, tinySettings, tinyTrainer } from '../../../utils/tiny-trainer.ts';

const STEPS = 12;
/** Over the loss of an adapter that was trained on the base in float32. */
const MOST_LOSS = { 8: 1.005, 4: 1.02 } as const;

let dir: string;
let deps: TinyDeps;
let rows: Row[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'base-bits-'));
  deps = await tinyDeps(dir);
  rows = await tinyRows(deps, 4 * STEPS);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function options(change: Partial<TrainerOptions>): TrainerOptions {
  const { modelDir, cacheDir } = deps;
  return { modelDir, cacheDir, threads: 1, ...tinySettings(), ...change };
}

/** Nats over all rows, on the base in float32: what a coordinator sees. */
async function lossOf(adapter: readonly Float32Array[]): Promise<number> {
  const judge = tinyTrainer(deps);
  judge.setParameters(adapter);
  const losses = await judge.evaluate(rows);
  await judge.dispose();
  return losses.reduce((sum, { lossSum }) => sum + lossSum, 0);
}

describe('a trainer on a base of fewer bits', () => {
  it.each([8, 4] as const)('%i: what it learns holds for the base in float32', async (baseBits) => {
    const start = initialMatrices(tinyTrainer(deps).layout, 1);
    const trained = async (bits: TrainerOptions['baseBits']) => {
      const trainer = await TrainerProcess.start(options({ baseBits: bits }));
      const { adapter } = await trainer.train({ adapter: start, rows, steps: STEPS });
      await trainer.stop();
      return lossOf(adapter);
    };
    const [before, full, fewer] = [await lossOf(start), await trained(32), await trained(baseBits)];
    expect(full).toBeLessThan(0.9 * before);
    expect(fewer).toBeLessThan(full * MOST_LOSS[baseBits]);
    expect((await readdir(deps.cacheDir)).some((name) => name.includes(`.q${baseBits}v`))).toBe(true);
  });

  it('is refused on an engine that does not compute with it, before anything is prepared', async () => {
    const attempt = TrainerProcess.start(options({ baseBits: 4, engine: 'tfjs' }));
    await expect(attempt).rejects.toThrow(expect.objectContaining({ code: 'BASE_BITS' }));
  });
});
