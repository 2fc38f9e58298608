import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { expect, it } from 'vitest';
import { TrainReport } from '../../../../cli/train/report.ts';
import { RunCurve } from '../../../../cli/train/run-curve.ts';
import type { RunPlan, RunStep } from '../../../../lora/finetune/listener.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const plan: RunPlan = { tokens: 1000, rows: 8, steps: 20, parameters: 5000, heldOutLoss: 5 };

function step(number: number): RunStep {
  const figures = { loss: 4, learningRate: 0.5, gradientNorm: 1, epoch: 1, tokens: 64, tokensPerSecond: 32 };
  return { step: number, steps: 20, secondsLeft: 0, ...figures };
}

/** Returns the step of each event of a file, with "version", "start" or the tags of its values. */
function eventsOf(file: Uint8Array): [step: number, ...what: string[]][] {
  const events: [number, ...string[]][] = [];
  for (let at = 0; at < file.length; ) {
    const length = Number(Buffer.from(file.subarray(at, at + 8)).readBigUInt64LE());
    events.push(eventOf(file.subarray(at + 12, at + 12 + length)));
    at += 12 + length + 4;
  }
  return events;
}

/** Returns the events in the only file of the run "mine". */
async function written(folder: string): Promise<ReturnType<typeof eventsOf>> {
  const [name] = await readdir(join(folder, 'mine'));
  return eventsOf(await readFile(join(folder, 'mine', name!)));
}

function eventOf(bytes: Uint8Array): [number, ...string[]] {
  const reader = new BinaryReader(bytes);
  let at = 0;
  const what: string[] = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 2) at = Number(reader.int64());
    else if (field === 3) what.push(reader.string().replace('brain.Event:2', 'version'));
    else if (field === 5) what.push(...tagsOf(reader.bytes()));
    else if (field === 7) what.push(Buffer.from(reader.bytes()).equals(Buffer.of(8, 1)) ? 'start' : 'other');
    else reader.skip(type);
  }
  return [at, ...what];
}

function tagsOf(summary: Uint8Array): string[] {
  const reader = new BinaryReader(summary);
  const tags: string[] = [];
  while (reader.pos < reader.len) {
    reader.tag();
    const value = new BinaryReader(reader.bytes());
    value.tag();
    tags.push(value.string());
  }
  return tags;
}

const deps = {
  clock: new ManualClock(),
  onFailure: (error: unknown) => {
    throw error;
  },
};
const STEP = [
  'loss/train',
  'speed/tokens_per_second',
  'run/learning_rate',
  'run/gradient_norm',
  'run/epoch',
  'run/tokens',
];

it('writes the losses of a run, and tells TensorBoard to drop those of an earlier run', async () => {
  const folder = await temporaryFolder();
  const curve = await RunCurve.open(folder, '/out/mine', deps);
  curve.onPlan(plan);
  curve.onStep(step(1));
  curve.onEvaluated({ step: 1, heldOutLoss: 4 });
  curve.onStep(step(2));
  // The held-out loss of step 1, whose adapter was the best, is in the file already.
  curve.onTrained({ adapterStep: 1, lossAfter: 4 });
  expect(await written(folder)).toEqual([
    [0, 'version'],
    [0, 'start'],
    [0, 'loss/held_out'],
    [1, ...STEP],
    [1, 'loss/held_out'],
    [2, ...STEP],
  ]);
});

it('writes only the later steps of a resumed run, and the loss after its last step', async () => {
  const folder = await temporaryFolder();
  const curve = await RunCurve.open(folder, '/out/mine', deps);
  curve.onPlan(plan);
  curve.onResumed(10);
  curve.onStep(step(11));
  curve.onTrained({ adapterStep: 11, lossAfter: 4 });
  expect(await written(folder)).toEqual([
    [0, 'version'],
    [11, 'start'],
    [11, ...STEP],
    [11, 'loss/held_out'],
  ]);
});

it('writes no held-out loss of a step before those of a resumed run, which TensorBoard would draw as a line back', async () => {
  const folder = await temporaryFolder();
  const curve = await RunCurve.open(folder, '/out/mine', deps);
  curve.onPlan(plan);
  curve.onResumed(10);
  curve.onStep(step(11));
  // The adapter of step 5 is still the best.
  curve.onTrained({ adapterStep: 5, lossAfter: 4 });
  const steps = (await written(folder)).map(([at]) => at);
  expect(steps).toEqual([0, 11, 11]);
});

it('writes the loss of a resumed run whose steps were all made before', async () => {
  const folder = await temporaryFolder();
  const curve = await RunCurve.open(folder, '/out/mine', deps);
  curve.onPlan(plan);
  curve.onResumed(20);
  curve.onTrained({ adapterStep: 20, lossAfter: 4 });
  expect((await written(folder)).at(-1)).toEqual([20, 'loss/held_out']);
});

it('a run goes on without curves, and warns once, if they cannot be written', async () => {
  const folder = await temporaryFolder();
  const { context, err } = fakeContext();
  const curve = await RunCurve.open(folder, '/out/mine', {
    clock: context.clock,
    onFailure: (error) => report.onWarning(error),
  });
  const report = new TrainReport({ json: false, output: '/out/mine', curve }, context);
  await rm(join(folder, 'mine'), { recursive: true });
  report.onPlan(plan);
  report.onStep(step(1));
  report.onStep(step(2));
  report.end();
  expect(err().match(/could not write/g)).toHaveLength(1);
});
