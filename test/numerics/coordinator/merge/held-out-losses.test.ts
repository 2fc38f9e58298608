import { mkdir, readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { packJobData } from '../../../../coordinator/jobs/pack-data.ts';
import { HeldOutLosses } from '../../../../coordinator/merge/held-out-losses.ts';
import { encodeAdapter } from '../../../../lora/adapter/codec.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { loadTokenizer } from '../../../../lora/data/tokenizer.ts';
import type { parseJobSpec } from '../../../../lora/finetune/settings/job-spec.ts';
import { describeBase } from '../../../../lora/models/base/base-identity.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import type { ComputeInput } from '../../../../lora/train/compute.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { LOSS_TOLERANCE, type MeasuredJob } from '../../../../verify/checks/losses.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel } from '../../../utils/models/tiny-model.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { tinyJob } from '../../../utils/swarm/tiny-job.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const { signal } = new AbortController();
let folder: string;
let base: string;
let measured: MeasuredJob;
let adapter: Uint8Array;
let data: ReturnType<typeof parseJobSpec>['data'];

beforeEach(async () => {
  folder = await temporaryFolder();
  const job = await tinyJob(folder);
  const { spec } = job;
  base = job.base;
  ({ data } = spec);
  const packed = await packJobData(
    { spec, tokenizer: await loadTokenizer(base), signal, onProgress: () => {} },
    { clock: systemClock, blobs: { put: async (bytes) => sha256(bytes) } },
  );
  const model = await openBase(base);
  const { digest, files } = await describeBase(base);
  const { manifest: toy } = toyJob(signerOf(1));
  const manifest = {
    ...toy,
    base: { name: 'tiny', parameters: model.parameters, digest, files: [...files] },
    data: packed.data,
    lora: spec.lora,
    training: spec.training,
    seed: spec.seed,
  };
  measured = { job: 'a'.repeat(64), manifest };
  const layout = adapterLayout(model, spec.lora);
  const values = layout.map(({ shape }, t) =>
    Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i + t) / 20),
  );
  adapter = encodeAdapter(layout, values, digest);
});

async function losses(compute: ComputeInput = { engine: 'onnx-cpu', threads: 1 }, given = { base, data }) {
  const meter = await HeldOutLosses.open({ ...given, cacheDir: folder, compute });
  onTestFinished(() => meter.close());
  return meter;
}

describe('held-out losses', () => {
  test('are measured without a copy of the base, and folders of killed verifications are deleted', async () => {
    const old = new Date(Date.now() - 25 * 60 * 60 * 1000);
    for (const name of ['verify-old', 'verify-999999999-old', `verify-${process.pid}-old`, 'other']) {
      await mkdir(join(folder, name));
      await utimes(join(folder, name), old, old);
    }
    await mkdir(join(folder, 'verify-999999999-new'));
    const meter = await losses();
    const folders = (await readdir(folder)).filter((name) => name.startsWith('verify-') || name === 'other');
    expect(folders).toHaveLength(4);
    expect(folders).toEqual(
      expect.arrayContaining(['other', 'verify-999999999-new', `verify-${process.pid}-old`]),
    );
    await meter.measure(measured, adapter, { signal });
    const [work] = folders.filter(
      (name) => name.startsWith(`verify-${process.pid}-`) && !name.endsWith('-old'),
    );
    const files = await readdir(join(folder, work!), { recursive: true });
    const copies = measured.manifest.base.files.flatMap(({ path, digest }) => [path, digest]);
    expect(files.filter((file) => copies.some((copy) => file.endsWith(copy)))).toEqual([]);
  });

  test('are the same each time, and differ little with an 8-bit base', async () => {
    const meters = await Promise.all([
      losses(),
      losses(),
      losses({ engine: 'onnx-cpu', threads: 1, baseBits: 8 }),
    ]);
    const measure = (meter: HeldOutLosses) => meter.measure(measured, adapter, { signal });
    const [once, again, rounded] = await Promise.all(meters.map(measure));
    expect(once).toBeGreaterThan(0.5);
    expect(again).toBe(once);
    expect(Math.abs(rounded! / once! - 1)).toBeLessThan(LOSS_TOLERANCE / 2);
  });

  test('are not measured with the base or the data of another job', async () => {
    const other = join(folder, 'other');
    await makeTinyModel(other, { seed: 2 });
    const measure = async (given: { base: string; data: typeof data }) =>
      (await losses(undefined, given)).measure(measured, adapter, { signal });
    await expect(measure({ base: other, data })).rejects.toThrow(withCode('BASE_DIFFERS'));
    const fewer = { ...data, heldOut: 0.1 };
    await expect(measure({ base, data: fewer })).rejects.toThrow(withCode('HELD_OUT_DIFFERS'));
    // An earlier version held out other examples for this seed.
    const seeded = { ...measured, manifest: { ...measured.manifest, seed: 1 } };
    const meter = await losses(undefined, { base, data: fewer });
    await expect(meter.measure(seeded, adapter, { signal })).rejects.toMatchObject({
      code: 'HELD_OUT_DIFFERS',
      next: expect.stringContaining('earlier version'),
    });
  });
});
