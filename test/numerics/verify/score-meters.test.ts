import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../../common/time/system-clock.ts';
import { packJobData } from '../../../coordinator/jobs/pack-data.ts';
import { HeldOutLosses } from '../../../coordinator/merge/held-out-losses.ts';
import { StoredShards } from '../../../coordinator/merge/own-data-scores.ts';
import { adapterLayout } from '../../../lora/adapter/layout.ts';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../../lora/finetune/settings/job-spec.ts';
import type { BaseBits } from '../../../lora/models/base/base-bits.ts';
import { describeBase } from '../../../lora/models/base/base-identity.ts';
import { openBase } from '../../../lora/models/base/base-model.ts';
import { processorCompute } from '../../../lora/train/compute.ts';
import { jobTraining } from '../../../lora/train/config.ts';
import type { LossGradient } from '../../../lora/update/score.ts';
import type { MeasuredJob } from '../../../verify/checks/losses.ts';
import { TrainerMeter } from '../../../verify/process/trainer-meter.ts';
import { SCORE_TOLERANCE } from '../../../verify/scores/measure.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { tinyJob } from '../../utils/swarm/tiny-job.ts';
import { toyJob } from '../../utils/virtual/toy-job.ts';

const { signal } = new AbortController();
const WANTED = { round: 3, parent: 'b'.repeat(64), positions: [0, 5, 17, 2] };
let folder: string;
let base: string;
let spec: JobSpec;
let measured: MeasuredJob;
let shards: StoredShards;
let adapter: Float32Array[];

beforeEach(async () => {
  folder = await temporaryFolder();
  ({ base, spec } = await tinyJob(folder));
  shards = new StoredShards(folder);
  const { data } = await packJobData(
    { spec, tokenizer: await loadTokenizer(base), signal, onProgress: () => {} },
    { clock: systemClock, blobs: shards },
  );
  const model = await openBase(base);
  const { digest, files } = await describeBase(base);
  const { manifest: toy } = toyJob(signerOf(1));
  const settings = { data, lora: spec.lora, training: spec.training, seed: spec.seed };
  const described = { name: 'tiny', parameters: model.parameters, digest, files: [...files] };
  measured = { job: 'a'.repeat(64), manifest: { ...toy, base: described, ...settings } };
  adapter = adapterLayout(model, spec.lora).map(({ shape }, t) =>
    Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i + t) / 20),
  );
});

async function ownData(data = spec.data) {
  const compute = { engine: 'onnx-cpu', threads: 1 };
  const meter = await HeldOutLosses.open({ base, data, cacheDir: folder, compute, scores: true });
  onTestFinished(() => meter.close());
  return meter.scores!;
}

async function trainerMeter({ threads = 1, baseBits = 32 as BaseBits, limitMs = 60_000 } = {}) {
  const { lora } = measured.manifest;
  const compute = { ...processorCompute({ threads }), baseBits, checkpointing: true };
  const training = jobTraining(measured.manifest);
  const meter = new TrainerMeter({
    trainer: { modelDir: base, cacheDir: join(folder, 'cache'), lora, training, compute },
    rows: [{ ...WANTED, rows: await shards.read(measured, WANTED, signal) }],
    chosen: [],
    limitMs,
  });
  onTestFinished(() => meter.close());
  return meter;
}

/** Returns the norm of the difference between two gradients, divided by the norm of the first. */
function apart(a: LossGradient, b: LossGradient): number {
  const size = (values: readonly number[]): number => Math.hypot(...values);
  const flat = (tensors: LossGradient): number[] => tensors.flatMap((tensor) => [...tensor]);
  const [x, y] = [flat(a), flat(b)];
  return size(x.map((value, i) => value - y[i]!)) / size(x);
}

test('the verifier of a node and the owner of the data measure the same gradients and losses', async () => {
  const own = await ownData();
  const witness = await trainerMeter();
  const expected = await own.gradient(measured, adapter, WANTED, { signal });
  expect(apart(expected, await witness.gradient(measured, adapter, WANTED, { signal }))).toBeLessThan(1e-6);
  const loss = await own.loss(measured, adapter, WANTED, { signal });
  expect(loss).toBeGreaterThan(1);
  expect(await witness.loss(measured, adapter, WANTED, { signal })).toBeCloseTo(loss, 6);
  for (const [settings, most] of [
    [{ threads: 2 }, 1e-4],
    [{ baseBits: 8 as BaseBits }, SCORE_TOLERANCE],
  ] as const) {
    const other = await trainerMeter(settings);
    const difference = apart(expected, await other.gradient(measured, adapter, WANTED, { signal }));
    expect(difference, JSON.stringify(settings)).toBeLessThan(most);
  }
});

test('a measurement ends at its time limit, and reads no other rows than it was given', async () => {
  const slow = await trainerMeter({ limitMs: 1 });
  await expect(slow.gradient(measured, adapter, WANTED, { signal })).rejects.toMatchObject({
    code: 'SCORES_UNMEASURED',
  });
  const meter = await trainerMeter();
  const other = { ...WANTED, positions: [1] };
  await expect(meter.gradient(measured, adapter, other, { signal })).rejects.toMatchObject({
    code: 'SCORES_UNMEASURED',
    values: { position: 1, round: 3 },
  });
});

test('other training rows than those of the job are refused', async () => {
  const scores = await ownData();
  const [first, ...others] = measured.manifest.data.shards;
  const changed = { ...first!, digest: 'c'.repeat(64) };
  const manifest = {
    ...measured.manifest,
    data: { ...measured.manifest.data, shards: [changed, ...others] },
  };
  const job = { ...measured, manifest };
  await expect(scores.gradient(job, adapter, WANTED, { signal })).rejects.toMatchObject({
    code: 'ROWS_DIFFER',
    values: { digest: changed.digest },
  });
});
