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
  stopping: { patience: 3, minDelta: 0.25 },
} satisfies Omit<FinetuneResult, 'base'>;
const SHARED = 'reason of the micro-batch';
const CHECKPOINTING = 'reason of the checkpointing';
const DAMAGED = 'reason of the warning';

function run(json: boolean, finished: FinetuneResult['finished'] = outcome.finished) {
  const { context, out, err } = fakeContext();
  // A terminal shows each step. Other output gets the progress of long work only.
  const stderr = { ...context.stderr, isTTY: !json, columns: 120 };
  const report = new TrainReport({ json, output: '/my out' }, { ...context, stderr });
  report.onBatchShared(4, SHARED);
  report.onCheckpointing(CHECKPOINTING);
  report.onPlan({ tokens: 100_000, rows: 800, steps: 20, parameters: 5000, heldOutLoss: 3 });
  report.onStep(step);
  report.onMeasuring(0, 10);
  report.onEvaluated({ step: 5, heldOutLoss: 2.25, best: true });
  report.onEvaluated({ step: 10, heldOutLoss: 2.5, best: false });
  report.onCheckpoint({ step: 5, path: '/out/checkpoints/step-00000005' });
  report.onWarning(new SwarmError('TRAIN_CHECKPOINT', DAMAGED, { dir: '/out' }));
  report.onPartial({ step: 5, resumable: true });
  report.onTrained({ base: '/base', ...outcome, finished }, null);
  report.end();
  return { out: out(), err: err() };
}

describe('the report of a run', () => {
  it('names the command that continues a run', () => {
    expect(run(false).err).toMatch(/ --resume --output "\/my out"$/m);
  });

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
      'evaluated',
      'checkpoint',
      'warning',
      'partial',
      'trained',
    ]);
    for (const { schemaVersion } of lines) expect(schemaVersion).toBe(1);
    expect(lines[0]).toMatchObject({ microBatch: 4, reason: SHARED });
    expect(lines[3]).toEqual({ schemaVersion: 1, event: 'step', ...step });
    expect(lines.at(-1)).toEqual({
      schemaVersion: 1,
      event: 'trained',
      version: null,
      ...outcome,
      tokensPerSecond: 640,
      adapter: '/my out',
    });
    expect(err).toBe('');
  });

  it('for people has the results and the next command', () => {
    const { out, err } = run(false);
    for (const part of [SHARED, CHECKPOINTING, '3.0000', 'step 15', '--adapter "my out" ']) {
      expect(out).toContain(part);
    }
    for (const part of ['step 5/20', '1.0e-4', DAMAGED, '--resume --output']) {
      expect(err).toContain(part);
    }
    expect(out, 'has a mark at the best loss').toMatch(/^step 5 .*\b2\.2500\b.+$/m);
    expect(out, 'and at no other').toMatch(/^step 10 .*\b2\.5000$/m);
    const lines = (text: string): number => text.split('\n').length;
    expect(lines(out), 'says that it stopped early').toBe(lines(run(false, 'steps').out) + 1);
    expect(out, 'and by which rule').toMatch(/ 3 .* 0\.25 .*--patience 3, --min-delta 0\.25/);
  });
});
