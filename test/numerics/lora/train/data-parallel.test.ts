import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import type { Row } from '../../../../lora/data/row.ts';
import { DataParallel, type DataParallelWorker, split } from '../../../../lora/train/data-parallel.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import { childrenOf } from '../../../utils/children.ts';
import { maxDifference } from '../../../utils/models/reference.ts';
import type { TrainingOptions } from '../../../utils/models/tiny-trainer.ts';
import { type TinyDeps, tinyDeps, tinyRows, tinySettings } from '../../../utils/models/tiny-trainer.ts';

let dir: string;
let deps: TinyDeps;
let rows: Row[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'data-parallel-'));
  deps = await tinyDeps(dir);
  rows = await tinyRows(deps, 48);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const PROCESSOR = { engine: 'onnx-cpu' } as const;
/** With these settings, a step has four micro-batches. */
const SETTINGS: TrainingOptions = { batchSize: 8, microBatch: 2 };

async function train(
  workers: number,
  options: { steps: number; onStep?: (step: number, pid: number) => Promise<void> },
) {
  const { modelDir, cacheDir } = deps;
  const notices: string[] = [];
  const trainer = await TrainerProcess.start(
    {
      modelDir,
      cacheDir,
      ...tinySettings(SETTINGS, { devices: [PROCESSOR, ...Array(workers).fill(PROCESSOR)] }),
    },
    { onNotice: (text) => notices.push(text) },
  );
  try {
    const adapter = initialMatrices(trainer.layout, 1);
    let running = { adapter, tokens: 0, lossMean: 0 };
    for (let step = 0; step < options.steps; step++) {
      await options.onStep?.(step, trainer.pid!);
      const some = rows.slice(8 * step, 8 * step + 8);
      const {
        adapter: trained,
        tokens,
        lossMean,
      } = await trainer.train({ adapter: running.adapter, rows: some, steps: 1 });
      running = { adapter: trained, tokens, lossMean };
    }
    return { ...running, notices };
  } finally {
    await trainer.stop();
  }
}

describe('several devices', () => {
  test('make the same steps as a single device', async () => {
    const alone = await train(0, { steps: 4 });
    const together = await train(2, { steps: 4 });
    expect(together.tokens).toBe(alone.tokens);
    expect(together.lossMean).toBeCloseTo(alone.lossMean, 5);
    for (const [i, tensor] of together.adapter.entries()) {
      expect(maxDifference(tensor, alone.adapter[i]!)).toBeLessThan(1e-5);
    }
    expect(together.notices).toEqual([]);
  });

  test.skipIf(process.platform !== 'linux')(
    'continue without a worker that died, and lose no rows',
    async () => {
      const alone = await train(0, { steps: 4 });
      const { adapter, notices } = await train(1, {
        steps: 4,
        onStep: async (step, pid) => {
          // After the first step, a worker that was slow may have no rows, so that its death changes nothing.
          if (step !== 0) return;
          for (const worker of await childrenOf(pid)) process.kill(worker, 'SIGKILL');
        },
      });
      expect(notices).toEqual([expect.stringMatching(/\bonnx-cpu\b.*\bSIGKILL\b/)]);
      for (const [i, tensor] of adapter.entries()) {
        expect(maxDifference(tensor, alone.adapter[i]!)).toBeLessThan(1e-5);
      }
    },
  );

  test('fail with the error of a worker that only needs a new process, and keep the worker', async () => {
    const exhausted = new SwarmError('ENGINE_EXHAUSTED', 'tfjs has created 9 tensors in this process');
    const did: string[] = [];
    const worker: DataParallelWorker = {
      name: 'tfjs',
      gradients: () => ({ sent: Promise.resolve(), sums: Promise.reject(exhausted) }),
      stop: async () => void did.push('stopped'),
    };
    const together = new DataParallel([worker], {
      microBatch: 2,
      onLost: (name) => did.push(`lost ${name}`),
    });
    const own = async () => ({ lossSum: 0, tokens: 0, gradients: [new Float32Array(1)] });
    const request = { adapter: [], rows: rows.slice(0, 8), step: 0 };
    await expect(together.gradients(request, own, undefined)).rejects.toBe(exhausted);
    expect(did).toEqual([]);
  });

  test('end the process of a worker that failed but lives, and do not use it again', async () => {
    const did: string[] = [];
    const failing: DataParallelWorker = {
      name: 'onnx-cuda',
      gradients: ({ rows: some }) => {
        did.push(`asked for ${some.length}`);
        return { sent: Promise.resolve(), sums: Promise.reject(new Error('out of memory')) };
      },
      stop: async () => void did.push('stopped'),
    };
    const together = new DataParallel([failing], {
      microBatch: 2,
      onLost: (name) => did.push(`lost ${name}`),
    });
    const gradients = [new Float32Array(1)];
    const own = async (some: readonly Row[]) => {
      gradients[0]!.fill(some.length);
      return { lossSum: some.length, tokens: some.length, gradients };
    };
    for (const step of [0, 1]) {
      const sums = await together.gradients({ adapter: [], rows: rows.slice(0, 8), step }, own, undefined);
      expect(sums).toEqual({ lossSum: 8, tokens: 8 });
      expect(gradients).toEqual([Float32Array.of(8)]);
    }
    expect(did).toEqual(['asked for 4', 'lost onnx-cuda', 'stopped']);
  });

  test('that do not run here are an error at the start', async () => {
    const { modelDir, cacheDir } = deps;
    const starting = TrainerProcess.start({
      modelDir,
      cacheDir,
      ...tinySettings(SETTINGS, { devices: [PROCESSOR, { engine: 'tfjs' }] }),
    });
    await expect(starting).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE', values: { engine: 'tfjs' } });
  });
});

describe('a batch is split', () => {
  test.each<[number, (number | null)[], number[]]>([
    [4, [null], [4]],
    [4, [null, null], [2, 2]],
    [5, [null, null], [3, 2]],
    [8, [1, 3], [2, 6]],
    [8, [3, 1], [6, 2]],
    [4, [1, 100], [0, 4]],
    [6, [2, null, 1], [3, 2, 1]],
    [1, [1, 1, 1], [1, 0, 0]],
    [0, [1, 1], [0, 0]],
  ])('%i micro-batches over devices of speeds %j', (count, speeds, expected) => {
    expect(split(count, speeds)).toEqual(expected);
  });
});
