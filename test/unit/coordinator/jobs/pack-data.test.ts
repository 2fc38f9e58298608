import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { packJobData } from '../../../../coordinator/jobs/pack-data.ts';
import { repackTrainingData } from '../../../../coordinator/jobs/repack-data.ts';
import { decodeHeldOut, gateRows } from '../../../../coordinator/merge/held-out.ts';
import { decodeRows, SHARD_BYTES } from '../../../../lora/data/shards/shard-codec.ts';
import { type JobSpecInput, parseJobSpec } from '../../../../lora/finetune/settings/job-spec.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { characterTokenizer } from '../../../utils/models/character-tokenizer.ts';

const characters = characterTokenizer(256);

async function pack(data: JobSpecInput['data'], sequenceLength = 16, seed = 0) {
  const blobs = await FileBlobStore.open({ home: await temporaryFolder() }, { clock: systemClock });
  const base = await temporaryFolder();
  const spec = parseJobSpec({ name: 'x', base, data, training: { sequenceLength }, seed });
  const { signal } = new AbortController();
  const progress: [number, number][] = [];
  const options = {
    spec,
    tokenizer: characters,
    signal,
    onProgress: (done: number, total: number) => progress.push([done, total]),
  };
  return { ...(await packJobData(options, { blobs, clock: systemClock })), blobs, progress };
}

async function jsonLines(texts: readonly string[]): Promise<string> {
  const path = join(await temporaryFolder(), 'data.jsonl');
  await writeFile(path, texts.map((text) => JSON.stringify({ text })).join('\n'));
  return path;
}

const texts = Array.from({ length: 20 }, (_, i) => String.fromCharCode(65 + i).repeat(40));

describe('packJobData', () => {
  test('splits by document, with every document in exactly one part', async () => {
    const train = await jsonLines(texts);
    const { data, heldOut, blobs, progress } = await pack({ train, heldOut: 0.25 });
    const letters = (rows: readonly { ids: Uint32Array }[]): Set<number> =>
      new Set(rows.flatMap(({ ids }) => [...ids]).filter((id) => id >= 65));
    const shards = await Promise.all(
      data.shards.map(({ digest }) => blobs.get(digest, { maxBytes: SHARD_BYTES })),
    );
    const trained = letters(shards.flatMap(decodeRows));
    const held = letters(decodeHeldOut(heldOut));
    expect(held.size).toBe(5);
    expect(trained.size).toBe(15);
    expect([...trained].filter((letter) => held.has(letter))).toEqual([]);
    expect(progress.at(-1)).toEqual([20, 20]);
    expect(data.heldOut).toMatchObject({ digest: sha256(heldOut), rows: decodeHeldOut(heldOut).length });
    expect(data.rows).toBe(data.shards.reduce((sum, { rows }) => sum + rows, 0));
    // Peers can fetch every blob, so the held-out data is not a blob.
    expect(await blobs.has(data.heldOut.digest)).toBe(false);
  });

  test('makes the same data again, and the same split from every seed', async () => {
    const train = await jsonLines(texts);
    const [a, b, c] = [
      await pack({ train, heldOut: 0.25 }),
      await pack({ train, heldOut: 0.25 }),
      await pack({ train, heldOut: 0.25 }, 16, 1),
    ];
    expect(a.data).toEqual(b.data);
    expect(c.data.heldOut.digest).toBe(a.data.heldOut.digest);
  });

  test('packs other training files for a copy, without the held-out samples of the job', async () => {
    const { data: original, heldOut } = await pack({ train: await jsonLines(texts), heldOut: 0.25 });
    const blobs = await FileBlobStore.open({ home: await temporaryFolder() }, { clock: systemClock });
    const repack = async (documents: readonly string[]) => {
      const spec = parseJobSpec({
        name: 'x',
        base: 'b',
        data: { train: await jsonLines(documents) },
        training: { sequenceLength: original.sequenceLength },
      });
      return repackTrainingData(
        {
          spec,
          original,
          heldOut,
          dir: await temporaryFolder(),
          tokenizer: characters,
          signal: new AbortController().signal,
          onProgress: () => {},
        },
        { blobs, clock: systemClock },
      );
    };
    const more = ['x'.repeat(40), 'y'.repeat(16)];
    const { data, tally } = await repack([...texts, ...more]);
    expect(tally).toMatchObject({ samples: 22, heldOut: 5 });
    expect(data).toMatchObject({ heldOut: original.heldOut, sequenceLength: original.sequenceLength });
    expect(data.tokens).toBe(original.tokens + more.join('').length);
    const held = [...new Set(decodeHeldOut(heldOut).flatMap(({ ids }) => [...ids]))].filter((id) => id >= 65);
    await expect(repack(held.map((id) => String.fromCharCode(id).repeat(40)))).rejects.toMatchObject({
      code: 'DATA_TOO_SMALL',
      values: { which: 'training', trainingRows: 0, heldOutSamples: 5 },
    });
  });

  test('accepts separate held-out files and file patterns', async () => {
    const folder = await temporaryFolder();
    for (const [name, text] of [
      ['a.txt', 'AAAA'],
      ['b.txt', 'BBBB'],
      ['held.jsonl', JSON.stringify({ text: 'HHHH' })],
    ] as const) {
      await writeFile(join(folder, name), text);
    }
    const { data, heldOut } = await pack(
      { train: join(folder, '*.txt'), heldOut: join(folder, 'held.jsonl') },
      8,
    );
    expect(decodeHeldOut(heldOut)[0]!.ids[0]).toBe(72);
    // Each of the two documents has four tokens to predict: three letters and the end of the text.
    expect(data.tokens).toBe(8);
  });

  test('packs conversations with supervised answers, and counts rows that are not conversations', async () => {
    const path = join(await temporaryFolder(), 'chat.json');
    const rows = Array.from({ length: 99 }, (_, i) => ({
      dialog: [
        { who: 'user', said: 'Q' },
        { who: 'assistant', said: String.fromCharCode(65 + (i % 26)) },
      ],
    }));
    await writeFile(path, JSON.stringify([...rows, { dialog: [] }]));
    const columns = { messages: 'dialog', role: 'who', content: 'said' };
    const { data, heldOut, blobs, read, tally } = await pack(
      { train: path, heldOut: 0.2, columns, template: 'chatml' },
      128,
    );
    expect(read).toMatchObject({
      rows: 100,
      bad: 1,
      reasons: [{ code: 'ROW_EMPTY', rows: [{ origin: { row: 100 } }] }],
    });
    expect(tally).toMatchObject({ samples: 79, rows: data.rows });
    expect(data.chatTemplate).toContain('<|im_start|>');
    const shards = await Promise.all(
      data.shards.map(({ digest }) => blobs.get(digest, { maxBytes: SHARD_BYTES })),
    );
    for (const { ids, labels } of [...shards.flatMap(decodeRows), ...decodeHeldOut(heldOut)]) {
      const trained = [...labels].filter((label) => label >= 0);
      expect(String.fromCharCode(...trained)).toMatch(/^([A-Z]<\|im_end\|>\n)+$/);
      expect(String.fromCharCode(...ids)).toContain('<|im_start|>user\nQ<|im_end|>');
    }
    await expect(pack({ train: path, heldOut: 0.2, columns, badRowShare: 0 })).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
    });
    await expect(pack({ train: path, heldOut: 0.2, format: 'text' })).rejects.toMatchObject({
      code: 'DATA_FORMAT',
    });
  });

  test('counts the rows that the chat template refuses', async () => {
    const path = join(await temporaryFolder(), 'chat.jsonl');
    const messages = [
      { role: 'user', content: 'Q' },
      { role: 'assistant', content: 'A' },
    ];
    const rows = Array.from({ length: 20 }, () => ({ messages }));
    // The built-in templates have no form for tools.
    await writeFile(path, [...rows, { messages, tools: [{}] }].map((row) => JSON.stringify(row)).join('\n'));
    const held = join(await temporaryFolder(), 'held.jsonl');
    await writeFile(held, JSON.stringify({ messages }));
    const { read } = await pack({ train: path, heldOut: held, template: 'chatml', badRowShare: 0.1 }, 128);
    expect(read).toMatchObject({ rows: 21, bad: 1, reasons: [{ code: 'ROW_TEMPLATE', count: 1 }] });
  });

  test('fills shards of at most one range of the blob protocol', async () => {
    const train = await jsonLines(['a'.repeat(300_000), 'b'.repeat(300_000), 'c'.repeat(20)]);
    const { data } = await pack({ train, heldOut: 0.1 }, 128);
    expect(data.shards.length).toBeGreaterThan(1);
    for (const { size } of data.shards) expect(size).toBeLessThanOrEqual(SHARD_BYTES);
    expect(data.shards[0]!.size).toBeGreaterThan(0.99 * SHARD_BYTES);
  });

  test.each([
    [['A'.repeat(40)], 'DATA_TOO_SMALL'],
    [['', ''], 'DATA_TOO_SMALL'],
  ])('refuses data that leaves nothing to train or to check with', async (given, code) => {
    await expect(pack({ train: await jsonLines(given), heldOut: 0.5 })).rejects.toMatchObject({ code });
  });

  test('reports a pattern that matches no file', async () => {
    const train = join(await temporaryFolder(), '*.txt');
    await expect(pack({ train, heldOut: 0.5 })).rejects.toMatchObject({
      code: 'DATA_NO_FILES',
      values: { path: train },
    });
  });
});

test('gateRows spreads its rows over all documents, and takes all rows for 0', () => {
  const rows = Array.from({ length: 10 }, (_, i) => i);
  expect(gateRows(rows, 4)).toEqual([0, 2, 5, 7]);
  expect(gateRows(rows, 0)).toEqual(rows);
  expect(gateRows(rows, 20)).toEqual(rows);
});
