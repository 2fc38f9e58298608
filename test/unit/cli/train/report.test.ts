import { describe, expect, it } from 'vitest';
import { TrainReport } from '../../../../cli/train/report.ts';
import { SwarmError } from '../../../../common/errors.ts';
import type { FinetuneResult, RunStep } from '../../../../lora/finetune/listener.ts';
import { fakeContext } from '../../../utils/cli-context.ts';

const step: RunStep = {
  step: 5,
  steps: 20,
  loss: 2.5,
  learningRate: 1e-4,
  gradientNorm: 0.7,
  epoch: 0.25,
  tokens: 640,
  tokensPerSecond: 1000,
  secondsLeft: 90,
};
const outcome = {
  step: 20,
  tokens: 2560,
  seconds: 4,
  loss: 2,
  lossBefore: 3,
  lossAfter: 2.25,
  adapterStep: 15,
  finished: 'early-stopping',
} satisfies Omit<FinetuneResult, 'base'>;

function run(json: boolean) {
  const { context, out, err } = fakeContext();
  const report = new TrainReport({ json, output: '/out' }, context);
  report.onBatchShared(4, 'for two devices');
  report.onCheckpointing('because a base of 4 bits is chosen to save memory');
  report.onPlan({ tokens: 100_000, rows: 800, steps: 20, parameters: 5000, heldOutLoss: 3 });
  report.onStep(step);
  report.onMeasuring(0, 10);
  report.onEvaluated({ step: 5, heldOutLoss: 2.25, best: true });
  report.onCheckpoint({ step: 5, path: '/out/checkpoints/step-00000005' });
  report.onWarning(new SwarmError('TRAIN_CHECKPOINT', 'the checkpoint is damaged', { dir: '/out' }));
  report.onPartial({ step: 5, resumable: true });
  report.onTrained({ base: '/base', ...outcome });
  report.end();
  return { out: out(), err: err() };
}

describe('the report of a training', () => {
  it('for programs has one JSON object per line, each with its event', () => {
    const { out, err } = run(true);
    const lines = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ event }) => event)).toEqual([
      'batch-shared',
      'checkpointing',
      'plan',
      'step',
      'evaluated',
      'checkpoint',
      'warning',
      'partial',
      'trained',
    ]);
    for (const { schemaVersion } of lines) expect(schemaVersion).toBe(1);
    expect(lines[0]).toMatchObject({ microBatch: 4, reason: 'for two devices' });
    expect(lines[3]).toEqual({ schemaVersion: 1, event: 'step', ...step });
    expect(lines.at(-1)).toEqual({
      schemaVersion: 1,
      event: 'trained',
      ...outcome,
      tokensPerSecond: 640,
      adapter: '/out',
    });
    expect(err).toBe('');
  });

  it('for people has the results and the next command', () => {
    const { out, err } = run(false);
    for (const words of [
      'rows at a time: for two devices',
      'gradient checkpointing: on, because a base of 4 bits',
      'held-out loss 3.0000',
      'best so far',
      'stopped early',
      'step 15',
      'swarm generate',
    ]) {
      expect(out).toContain(words);
    }
    for (const words of ['step 5/20', 'rate 1.0e-4', 'damaged', '--resume --output /out'])
      expect(err).toContain(words);
  });
});
