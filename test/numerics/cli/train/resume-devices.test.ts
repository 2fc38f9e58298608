/** The devices and the precision of a resumed run. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { createProgram } from '../../../../cli/program.ts';
import { deviceNames } from '../../../../lora/engines/names.ts';
import { CheckpointFolder } from '../../../../lora/finetune/checkpoints.ts';
import { computeInputOf } from '../../../../lora/finetune/settings/run-settings.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

let cwd: string;
/** Names of the devices of every trainer that was started. */
let started: string[];
beforeEach(async () => {
  cwd = await temporaryFolder();
  const base = await makeTinyModel(join(cwd, 'model'));
  await writeFile(join(cwd, 'data.txt'), TINY_TEXT);
  const training = { sequenceLength: 16, batchSize: 2, microBatch: 1, schedule: 'constant', warmupSteps: 0 };
  const config = { base, data: { train: ['data.txt'] }, training, lora: { rank: 2 } };
  await writeFile(join(cwd, 'c.yaml'), JSON.stringify(config));
  await writeFile(join(cwd, 'with-engine.yaml'), JSON.stringify({ ...config, engine: 'onnx-cpu' }));
  const { microBatch: _, ...whole } = training;
  await writeFile(join(cwd, 'whole.yaml'), JSON.stringify({ ...config, training: whole }));
  started = [];
  const start = TrainerProcess.start.bind(TrainerProcess);
  const spy = vi.spyOn(TrainerProcess, 'start').mockImplementation((options, deps) => {
    started.push(deviceNames(options.compute.devices));
    return start(options, deps);
  });
  onTestFinished(() => spy.mockRestore());
});

/**
 * Runs `lora-swarm train`.
 * @returns the text that the command prints, to both streams
 */
async function train(output: string, ...args: string[]): Promise<string> {
  const environment = { SWARM_CACHE: join(cwd, 'cache'), SWARM_ENGINE: 'onnx-cpu' };
  const { context, out, err } = fakeContext({ cwd, environment });
  const all = ['train', '--output', output, '--threads', '1', '--config', 'c.yaml', ...args];
  await createProgram(context).parseAsync(all, { from: 'user' });
  return out() + err();
}

const newest = async (output: string) =>
  (await new CheckpointFolder({ output: join(cwd, output), keep: 1 }).newest())!;

it('a resumed run uses its devices, or the ones named now', async () => {
  const resumed = async (...args: string[]) => {
    await train('out', '--resume', ...args);
    const { step, settings } = await newest('out');
    return [step, started.at(-1), computeInputOf(settings).engine];
  };
  await train('out', '--steps', '1', '--engine', 'onnx-cpu,onnx-cpu');
  expect(started).toEqual(['onnx-cpu,onnx-cpu']);
  const two = 'onnx-cpu,onnx-cpu';
  expect(await resumed('--steps', '2')).toEqual([2, two, two]);
  expect(await resumed('--steps', '3', '--engine', 'onnx-cpu')).toEqual([3, 'onnx-cpu', 'onnx-cpu']);
  // The run uses the devices of the last start, not of the first start.
  expect(await resumed('--steps', '4')).toEqual([4, 'onnx-cpu', 'onnx-cpu']);
  expect(await resumed('--steps', '5', '--engine', two)).toEqual([5, two, two]);
  // A config file overrides the checkpoint as a flag does.
  expect(await resumed('--steps', '6', '--config', 'with-engine.yaml')).toEqual([6, 'onnx-cpu', 'onnx-cpu']);
});

it('several devices share a batch in default micro-batches, and a resumed run keeps its micro-batch', async () => {
  const rows = async (output: string) => (await newest(output)).settings.spec.training.microBatch;
  const two = ['--engine', 'onnx-cpu,onnx-cpu'];
  const begun = await train('out', '--json', '--steps', '1', '--config', 'whole.yaml', ...two);
  expect(begun).toContain('"event":"batch-shared","microBatch":1,');
  expect(begun).not.toContain('DEVICES_IDLE');
  expect(await rows('out')).toBe(1);
  const alone = ['--config', 'whole.yaml', '--engine', 'onnx-cpu'];
  expect(await train('out', '--json', '--resume', '--steps', '2', ...alone)).not.toContain('batch-shared');
  expect(await rows('out')).toBe(1);
  await train('alone', '--steps', '1', ...alone);
  const joined = await train('alone', '--json', '--resume', '--steps', '2', '--config', 'whole.yaml', ...two);
  expect(joined).toContain('"code":"DEVICES_IDLE"');
  expect(await rows('alone')).toBe(2);
  const set = await train('set', '--steps', '1', '--micro-batch', '2', ...two);
  expect(set, 'one of two devices is idle').toMatch(/\b1\b.*\b2 devices\b/);
  expect(await rows('set')).toBe(2);
});

/** Changes a checkpoint, so that it looks like one from a GPU that computed in float16. */
async function inFloat16(output: string, step: number): Promise<void> {
  const dir = join(cwd, output, 'checkpoints', `step-${String(step).padStart(8, '0')}`);
  const optimizer = join(dir, 'optimizer.bin');
  const scale = Buffer.alloc(16);
  scale.writeDoubleLE(2 ** 14, 0);
  scale.writeDoubleLE(7, 8);
  const bytes = Buffer.concat([await readFile(optimizer), scale]);
  await writeFile(optimizer, bytes);
  const stateFile = join(dir, 'state.json');
  const state = JSON.parse(await readFile(stateFile, 'utf8'));
  Object.assign(state.settings, { engine: 'onnx-webgpu', precision: 'float16' });
  state.digests['optimizer.bin'] = createHash('sha256').update(bytes).digest('hex');
  await writeFile(stateFile, JSON.stringify(state));
}

it('a run in float16 continues in float32 from the same state', async () => {
  await train('straight', '--steps', '4');
  await train('out', '--steps', '2');
  await inFloat16('out', 2);
  const onwards = ['--resume', '--steps', '4', '--engine', 'onnx-cpu'];
  // By default the precision stays float16, which onnx-cpu lacks.
  await expect(train('out', ...onwards)).rejects.toMatchObject({ code: 'PRECISION' });
  await train('out', ...onwards, '--precision', 'float32');
  const { step, settings } = await newest('out');
  expect([step, settings.precision]).toEqual([4, 'float32']);
  const adapter = (output: string) => readFile(join(cwd, output, 'adapter_model.safetensors'));
  expect(await adapter('out')).toEqual(await adapter('straight'));
  // The resumed run has dropped the loss scale, so both runs write the same optimiser file.
  const optimizer = (output: string) =>
    readFile(join(cwd, output, 'checkpoints/step-00000004/optimizer.bin'));
  expect(await optimizer('out')).toEqual(await optimizer('straight'));

  const back = train('out', '--resume', '--steps', '5', '--engine', 'onnx-webgpu', '--precision', 'float16');
  await expect(back).rejects.toMatchObject({
    code: 'RESUME_CONFLICT',
    values: { differences: [{ field: 'precision', before: 'float32', now: 'float16' }] },
  });
});
