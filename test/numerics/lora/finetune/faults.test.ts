/** Warnings before a run, and the files that a failed run leaves. */
import { mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { failureOf } from '../../../../cli/errors.ts';
import { TrainReport } from '../../../../cli/train/report.ts';
import type { Device } from '../../../../lora/engines/names.ts';
import { CheckpointFolder } from '../../../../lora/finetune/checkpoints.ts';
import { type TrainOptions, trainPrepared } from '../../../../lora/finetune/finetune.ts';
import type { RunSettings } from '../../../../lora/finetune/settings/run-settings.ts';
import { resolveSpec } from '../../../../lora/finetune/settings/settings.ts';
import { type Devices, processorCompute } from '../../../../lora/train/compute.ts';
import { trainError } from '../../../../lora/train/errors.ts';
import { availableMemory } from '../../../../lora/train/memory/available-memory.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import type { TrainProgress } from '../../../../lora/train/trainer.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

vi.mock(import('../../../../lora/train/memory/available-memory.ts'), async (original) => {
  const { availableMemory } = await original();
  return { availableMemory: vi.fn(availableMemory) };
});

const SIZE = { sequenceLength: 32, batchSize: 2 };

let options: TrainOptions;
beforeEach(async () => {
  const folder = await temporaryFolder();
  const base = await makeTinyModel(join(folder, 'model'));
  await writeFile(join(folder, 'a.txt'), TINY_TEXT);
  const spec = resolveSpec({
    base,
    data: { train: [join(folder, 'a.txt')] },
    lora: { rank: 1, alpha: 65_536 },
    // The decay multiplies B by about −1000 in every step, until float32 overflows.
    training: { learningRate: 1, loraPlusRatio: 1000, weightDecay: 1, warmupSteps: 0, ...SIZE },
    run: { steps: 200 },
  });
  const output = join(folder, 'out');
  const { signal } = new AbortController();
  const compute = { ...processorCompute({ threads: 1 }), checkpointing: 'auto' } as const;
  const cacheDir = join(folder, 'cache');
  options = { spec, output, newest: null, asked: compute, cacheDir, compute, now: 0, signal };
});

it('advises a lower rate after gradients that are not finite, and not --resume', async () => {
  const { context, err } = fakeContext();
  const report = new TrainReport({ json: false, output: options.output }, context);
  const error = await trainPrepared(options, report).catch((error: unknown) => error);
  expect(error).toMatchObject({ code: 'GRADIENT_NOT_FINITE' });
  expect(failureOf(error).next).toMatch(/--learning-rate.*--resume/);
  expect(err()).toContain(options.output);
  expect(err()).not.toContain('--resume');
});

it('advises --resume and a shorter sequence after a trainer that died without a fallback', async () => {
  const died = trainError('TRAINER_DIED', 'the trainer process was killed by SIGTERM');
  const dying = vi.spyOn(TrainerProcess.prototype, 'train').mockRejectedValue(died);
  onTestFinished(() => void dying.mockRestore());
  const error = await trainPrepared(options, {}).catch((error: unknown) => error);
  expect(error).toMatchObject({ code: 'TRAINER_DIED' });
  expect(failureOf(error).next).toMatch(/--base-bits.*--sequence-length.*--resume/);
});

it('throws the first error and warns that the adapter could not be saved', async () => {
  const { context, out } = fakeContext();
  const report = new TrainReport({ json: true, output: options.output }, context);
  const onStep = report.onStep.bind(report);
  let first = true;
  report.onStep = (step) => {
    onStep(step);
    // A folder in the way makes writing fail.
    if (first) mkdirSync(join(options.output, 'adapter_model.safetensors'));
    first = false;
  };
  await expect(trainPrepared(options, report)).rejects.toMatchObject({ code: 'GRADIENT_NOT_FINITE' });
  const events = out()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; code?: string });
  expect(events.filter(({ event }) => event === 'warning')).toMatchObject([{ code: 'PARTIAL_NOT_KEPT' }]);
  expect(events.some(({ event }) => event === 'partial')).toBe(false);
});

it('warns that the steps are lost when the trainer died together with the interrupted command', async () => {
  const died = trainError('TRAINER_DIED', 'the trainer process was killed by SIGTERM');
  const controller = new AbortController();
  const dying = [
    vi.spyOn(TrainerProcess.prototype, 'train').mockImplementation(async ({ onProgress }) => {
      const about = { rows: 2, tokens: 64, loss: 1, learningRate: 1, gradientNorm: 1, tokensPerSecond: 1 };
      onProgress?.({ step: 1, ...about } as TrainProgress);
      controller.abort(new Error('enough'));
      throw died;
    }),
    vi.spyOn(TrainerProcess.prototype, 'state').mockRejectedValue(died),
  ];
  onTestFinished(() => dying.forEach((spy) => void spy.mockRestore()));
  const { context, err } = fakeContext();
  const report = new TrainReport({ json: false, output: options.output }, context);
  const run = trainPrepared({ ...options, signal: controller.signal }, report);
  await expect(run).rejects.toThrow('enough');
  expect(err()).toContain('step 1');
  expect(err()).toContain(options.output);
});

it('warns about too little memory, and trains', async () => {
  const available = vi.mocked(availableMemory).mockReturnValue(1e6);
  onTestFinished(() => void available.mockReset());
  const { context, err } = fakeContext();
  const report = new TrainReport({ json: false, output: options.output }, context);
  const { run } = options.spec;
  const outcome = await trainPrepared(
    { ...options, spec: { ...options.spec, run: { ...run, steps: 1 } } },
    report,
  );
  expect(outcome.step).toBe(1);
  expect(err()).toMatch(/\b[\d.]+ MB\b.*\b1\.0 MB\b/);
});

it('warns about memory again if a resumed run has more or other devices', async () => {
  const available = vi.mocked(availableMemory).mockReturnValue(1e6);
  onTestFinished(() => void available.mockReset());
  const warned = async (steps: number, others: readonly Device[], ran: Partial<RunSettings> = {}) => {
    const compute = {
      ...options.compute,
      devices: [...options.compute.devices, ...others] as unknown as Devices,
    };
    const { context, out } = fakeContext();
    const { spec, output } = options;
    const found = await new CheckpointFolder({ output, keep: 1 }).newest();
    const newest = found && { ...found, settings: { ...found.settings, ...ran } };
    const finite = { schedule: 'constant', learningRate: 1e-6, loraPlusRatio: 1, weightDecay: 0 } as const;
    const training = { ...spec.training, ...finite };
    const length = { ...spec, training, run: { ...spec.run, steps } };
    const report = new TrainReport({ json: true, output }, context);
    await trainPrepared({ ...options, spec: length, resume: true, newest, asked: compute, compute }, report);
    return out().includes('"MEMORY_SHORT"');
  };
  expect(await warned(1, [])).toBe(true);
  expect(await warned(2, []), 'it is known to fit').toBe(false);
  expect(await warned(3, [], { engine: 'onnx-webgpu' }), 'it was on a GPU before').toBe(true);
  expect(await warned(4, [{ engine: 'onnx-cpu' }])).toBe(true);
  expect(await warned(5, [])).toBe(false);
});
