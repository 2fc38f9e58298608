import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import type { Row } from '../../../../lora/data/row.ts';
import type { BaseBits } from '../../../../lora/models/base/base-bits.ts';
import type { ResolvedCompute } from '../../../../lora/train/compute.ts';
import type { TrainerOptions } from '../../../../lora/train/process/messages.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import {
  type TinyDeps,
  tinyDeps,
  tinyRows,
  tinySettings,
  tinyTrainer,
} from '../../../utils/models/tiny-trainer.ts';

const STEPS = 12;
/**
 * For each number of base bits: the largest loss allowed, as a multiple of the loss of an adapter trained on the
 * float32 base.
 */
const MAX_LOSS = { 8: 1.005, 4: 1.02 } as const;

let dir: string;
let deps: TinyDeps;
let rows: Row[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'base-bits-'));
  deps = await tinyDeps(dir);
  rows = await tinyRows(deps, 4 * STEPS);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function options(change: Partial<ResolvedCompute>): TrainerOptions {
  const { modelDir, cacheDir } = deps;
  return { modelDir, cacheDir, ...tinySettings({}, change) };
}

/** Loss over all rows in nats, with the float32 base, as a coordinator measures it. */
async function lossOf(adapter: readonly Float32Array[]): Promise<number> {
  const judge = tinyTrainer(deps);
  judge.setParameters(adapter);
  const losses = await judge.evaluate(rows);
  await judge.dispose();
  return losses.reduce((sum, { lossSum }) => sum + lossSum, 0);
}

describe('a trainer with fewer base bits', () => {
  it.each([8, 4] as const)('%i: learns an adapter that also fits the float32 base', async (baseBits) => {
    const start = initialMatrices(tinyTrainer(deps).layout, 1);
    const trained = async (bits: BaseBits) => {
      const trainer = await TrainerProcess.start(options({ baseBits: bits }));
      const { adapter } = await trainer.train({ adapter: start, rows, steps: STEPS });
      await trainer.stop();
      return lossOf(adapter);
    };
    const [before, full, fewer] = [await lossOf(start), await trained(32), await trained(baseBits)];
    expect(full).toBeLessThan(0.9 * before);
    expect(fewer).toBeLessThan(full * MAX_LOSS[baseBits]);
    expect((await readdir(deps.cacheDir)).some((name) => name.includes(`.q${baseBits}v`))).toBe(true);
  });

  it('is refused on an engine that lacks these bits, before any preparation', async () => {
    const attempt = TrainerProcess.start(options({ baseBits: 4, devices: [{ engine: 'tfjs' }] }));
    await expect(attempt).rejects.toMatchObject({ code: 'BASE_BITS' });
  });
});
