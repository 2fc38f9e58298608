import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { checkJob } from '../../../../coordinator/jobs/check-job.ts';
import { inspect } from '../../../../lora/data/inspect/inspect.ts';
import { dataSettingsSchema } from '../../../../lora/data/settings.ts';
import { type JobSpecInput, parseJobSpec } from '../../../../lora/finetune/settings/job-spec.ts';
import type { JobCheck, RowSummary } from '../../../../protocol/api/job-creation.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

let folder: string;
let spec: JobSpecInput;

async function data(name: string, documents: number): Promise<string> {
  const path = join(folder, name);
  const texts = Array.from({ length: documents }, (_, i) => JSON.stringify({ text: `${i} ${TINY_TEXT}` }));
  await writeFile(path, texts.join('\n'));
  return path;
}

const heldOut = (): Promise<string> => data('held-out.jsonl', 2);

function check(changes: Partial<JobSpecInput> = {}): Promise<JobCheck> {
  const cacheDir = join(folder, 'cache');
  const options = { cacheDir, signal: new AbortController().signal, onProgress: () => {} };
  return checkJob(parseJobSpec({ ...spec, ...changes }), options, { clock: systemClock });
}

beforeEach(async () => {
  folder = await temporaryFolder();
  spec = {
    name: 'times',
    base: await makeTinyModel(join(folder, 'tiny')),
    data: { train: await data('data.jsonl', 12), heldOut: 0.2 },
    lora: { rank: 2, alpha: 4 },
    training: { sequenceLength: 32, batchSize: 2, microBatch: 2 },
  };
});

describe('checkJob', () => {
  test('returns the figures of the job and writes nothing', async () => {
    const before = await readdir(folder, { recursive: true });
    const found = await check();
    expect(await readdir(folder, { recursive: true })).toEqual(before);
    expect(found.base).toMatchObject({ name: 'tiny' });
    expect(found.base.bytes).toBeGreaterThan(found.base.parameters);
    expect(found.data.rows).toBeGreaterThan(found.data.heldOut.rows);
    expect(found.data.tokens).toBeLessThanOrEqual(32 * found.data.rows);
    expect(found.adapter.bytes).toBe(4 * found.adapter.parameters);
    expect(found.update.map(({ preset }) => preset)).toEqual(['dense', 'balanced']);
    const [dense, balanced] = found.update;
    expect(dense!.bytes / found.adapter.parameters).toBeGreaterThan(0.5);
    expect(balanced!.bytes).toBeLessThan(dense!.bytes);
    expect(found.manifestBytes).toBeGreaterThan(500);
  });

  test('counts and names held-out samples without a trained token', async () => {
    const rows = Array.from({ length: 4 }, (_, i) => ({ prompt: `${i}?`, completion: TINY_TEXT }));
    const heldOut = join(folder, 'held.jsonl');
    const silent = { messages: [{ role: 'user', content: 'Hello' }] };
    const answered = { messages: [...silent.messages, { role: 'assistant', content: 'Yes' }] };
    await writeFile(heldOut, [answered, silent].map((row) => JSON.stringify(row)).join('\n'));
    const train = join(folder, 'train.jsonl');
    await writeFile(train, rows.map((row) => JSON.stringify(row)).join('\n'));
    const { data } = await check({ data: { train, heldOut, template: 'plain' } });
    expect(data.heldOut.tally).toMatchObject({
      samples: 2,
      untrained: 1,
      untrainedRows: [{ origin: { file: heldOut, row: 2 } }],
    });
    expect(data.tally.untrained).toBe(0);
  });

  test('warns if the training data contains the held-out data', async () => {
    const train = join(folder, 'twice.jsonl');
    const rows = ['Call me Ishmael.', 'Thar she blows!'].map((text) => JSON.stringify({ text }));
    await writeFile(train, rows.join('\n'));
    const { data, warnings } = await check({ data: { train, heldOut: train } });
    expect(data.heldOut.overlap).toBe(1);
    expect(warnings).toMatchObject([{ message: expect.stringContaining('100 %') }]);
    const other = await check({ data: { train, heldOut: await heldOut() } });
    expect([other.data.heldOut.overlap, other.warnings]).toEqual([0, []]);
  });

  test('lists bad rows, and warns if every sample is cut', async () => {
    const messages = (role: string, answer: string) => ({
      messages: [
        { role, content: 'Who?' },
        { role: 'assistant', content: answer },
      ],
    });
    const long = Array.from({ length: 12 }, (_, i) => messages('user', `${i} ${TINY_TEXT.repeat(3)}`));
    const rows = [...long, messages('customer', 'Me.'), messages('user', '')];
    const path = join(folder, 'talks.jsonl');
    await writeFile(path, rows.map((row) => JSON.stringify(row)).join('\n'));
    const { data, warnings } = await check({
      data: { train: path, heldOut: await heldOut(), template: 'plain', badRowShare: 0.5 },
    });
    expect(data.read).toMatchObject({ rows: 14, bad: 2 });
    expect(data.read.reasons.map(({ code, rows }) => [code, rows[0]!.origin.row])).toEqual(
      expect.arrayContaining([
        ['ROW_ROLE', 13],
        ['ROW_EMPTY', 14],
      ]),
    );
    expect(data.tally).toMatchObject({ samples: 12, truncated: 12 });
    expect(warnings).toMatchObject([{ next: expect.stringContaining(String(data.tally.longest - 1)) }]);
  });

  test('counts the same bad records as an inspection of the file', async () => {
    const talk = (role: string) => ({
      messages: [
        { role, content: 'Who?' },
        { role: 'assistant', content: TINY_TEXT },
      ],
    });
    const path = join(folder, 'talks.jsonl');
    const rows = Array.from({ length: 24 }, (_, i) =>
      JSON.stringify(talk(i % 2 === 0 ? 'user' : 'customer')),
    );
    await writeFile(path, [...rows, 'no JSON'].join('\n'));
    const settings = { template: 'plain', badRowShare: 1 };
    const { data } = await check({ data: { train: path, heldOut: 0.5, ...settings } });
    const inspection = await inspect({
      modelDir: spec.base,
      data: [path],
      settings: dataSettingsSchema.parse(settings),
      sequenceLength: 32,
      now: 0,
    });
    const counts = ({ rows, bad, reasons }: RowSummary) => ({
      rows,
      bad,
      reasons: reasons.map(({ code, count }) => [code, count]),
    });
    expect(counts(data.read)).toEqual({
      rows: 25,
      bad: 13,
      reasons: [
        ['ROW_ROLE', 12],
        ['ROW_NOT_JSON', 1],
      ],
    });
    expect(data.read).toEqual(inspection.read);
    const refused = check({ data: { train: path, heldOut: 0.5, ...settings, badRowShare: 0.01 } });
    await expect(refused).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
      values: { rows: 25, bad: 13, reasons: data.read.reasons },
    });
    expect(data.heldOut.read).toBeNull();
    expect(data.tally.samples + data.heldOut.tally.samples).toBe(inspection.tally.samples);
  });

  test.each<[string, () => Promise<Partial<JobSpecInput>>]>([
    ['MODEL_DIR', async () => ({ base: join(folder, 'nowhere') })],
    ['LORA_TARGETS', async () => ({ lora: { targets: ['no_such_module'] } })],
    ['SEQUENCE_TOO_LONG', async () => ({ training: { sequenceLength: 128 } })],
    ['DATA_UNREADABLE', async () => ({ data: { train: join(folder, 'nowhere.jsonl') } })],
    ['DATA_TOO_SMALL', async () => ({ data: { train: await data('one.jsonl', 1) } })],
  ])('refuses with %s, as the creation of the job would', async (code, changes) => {
    await expect(check(await changes())).rejects.toMatchObject({ code });
  });

  test('refuses data without a row', async () => {
    const path = join(folder, 'empty.jsonl');
    await writeFile(path, '');
    await expect(check({ data: { train: path } })).rejects.toMatchObject({
      code: expect.stringMatching(/^DATA_/),
    });
  });
});
