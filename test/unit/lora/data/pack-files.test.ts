import { mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type PackFilesOptions, packFiles } from '../../../../lora/data/pack-files.ts';
import { packExamples } from '../../../../lora/data/packing/pack-examples.ts';
import { newTally } from '../../../../lora/data/packing/tally.ts';
import { readExamples } from '../../../../lora/data/read-examples.ts';
import { predictedTokens, type Row } from '../../../../lora/data/row.ts';
import { RowReport } from '../../../../lora/data/row-report.ts';
import { dataSettingsSchema } from '../../../../lora/data/settings.ts';
import { cutShards } from '../../../../lora/data/shards/cut-shards.ts';
import { StoredRows } from '../../../../lora/data/stored-rows.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { characterTokenizer } from '../../../utils/models/character-tokenizer.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { textRenderer } from '../../../utils/text-renderer.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
// The current time, because it is compared with file times that the system sets.
const NOW = Date.now();

const tokenizer = characterTokenizer(70_000);

interface World extends PackFilesOptions {
  paths: string[];
}

async function world(texts: readonly string[]): Promise<World> {
  const dir = await temporaryFolder();
  const path = join(dir, 'data.jsonl');
  await writeFile(path, texts.map((text) => JSON.stringify({ text })).join('\n'));
  await mkdir(join(dir, 'model'));
  return {
    paths: [path],
    settings: dataSettingsSchema.parse({}),
    sequenceLength: 16,
    modelDir: join(dir, 'model'),
    cacheDir: join(dir, 'cache'),
    now: NOW,
  };
}

const texts = Array.from({ length: 40 }, (_, i) => `${i}`.repeat(1 + ((i * 7) % 30)));
const sets = async ({ cacheDir }: World) => (await readdir(join(cacheDir, 'data'))).sort();

async function directly({ paths, sequenceLength }: World): Promise<Row[]> {
  const report = new RowReport();
  const rows: Row[] = [];
  for await (const row of packExamples(readExamples(paths, { report }), textRenderer(tokenizer), {
    sequenceLength,
    report,
  })) {
    rows.push(row);
  }
  return rows;
}

describe('packed files', () => {
  it('hold the rows of the examples and return them in any order', async () => {
    const options = await world(texts);
    const rows = await directly(options);
    const packed = await packFiles(options, { tokenizer });
    expect(packed.rows).toBe(rows.length);
    expect(packed.tokens).toBe(rows.reduce((sum, row) => sum + predictedTokens(row), 0));
    const backwards = rows.map((_, i) => rows.length - 1 - i);
    expect(packed.rowsAt(backwards)).toEqual(rows.toReversed());
    expect(() => packed.row(rows.length)).toThrow(withCode('ROWS_POSITION'));
    expect(packed.tally).toMatchObject({ samples: texts.length, rows: rows.length });
    expect(packed.read).toEqual({ rows: texts.length, bad: 0, reasons: [] });
    packed.close();
  });

  it('are read across shards with 2-byte and 4-byte tokens', async () => {
    const rows = Array.from({ length: 50 }, (_, i): Row => {
      const ids = new Uint32Array(8192).fill(i > 20 ? 66_000 + i : i);
      return { ids, segments: new Uint16Array(8192).fill(1), labels: Int32Array.from(ids) };
    });
    const dir = join(await temporaryFolder(), 'packed');
    const shards = cutShards(
      (async function* () {
        yield* rows;
      })(),
      { sequenceLength: 8192, vocabSize: 70_000 },
    );
    const about = () => ({ key: 'k', read: new RowReport().summary(), tally: newTally() });
    expect(await StoredRows.write(dir, shards, about)).toBe(true);
    const packed = await StoredRows.open(dir);
    expect(packed!.rowsAt(rows.map((_, i) => i))).toEqual(rows);
    packed!.close();
  });

  it('are packed once for the same content, and again after any change', async () => {
    const options = await world(texts);
    const pack = async (change: Partial<World> = {}) => {
      const progress: number[] = [];
      const onProgress = (done: number, total: number) => progress.push(done / total);
      const packed = await packFiles({ ...options, ...change, onProgress }, { tokenizer });
      packed.close();
      return { key: packed.key, made: progress.at(-1) === 1 };
    };
    const first = await pack();
    expect(first.made).toBe(true);
    expect(await pack({ now: NOW + DAY_MS })).toEqual({ key: first.key, made: false });
    const settings = dataSettingsSchema.parse({ packing: 'none' });
    const template = join(options.modelDir, 'chat_template.jinja');
    const changes: (() => Promise<Partial<World>>)[] = [
      async () => ({ sequenceLength: 8 }),
      async () => ({ settings }),
      async () =>
        writeFile(join(options.modelDir, 'tokenizer_config.json'), '{"eos_token":"x"}').then(() => ({})),
      async () => writeFile(template, 'one').then(() => ({})),
      async () => writeFile(template, 'two').then(() => ({})),
      async () => writeFile(template, '{{ strftime_now("%d") }}').then(() => ({})),
      async () => ({ now: NOW + DAY_MS }),
      async () => writeFile(options.paths[0]!, JSON.stringify({ text: 'other' })).then(() => ({})),
    ];
    const keys = new Set([first.key]);
    for (const change of changes) {
      const { key, made } = await pack(await change());
      expect([made, keys.has(key)]).toEqual([true, false]);
      keys.add(key);
    }
  });

  it('are packed again if incomplete, and a failed attempt leaves nothing behind', async () => {
    const options = await world(texts);
    (await packFiles(options, { tokenizer })).close();
    const [name] = await sets(options);
    await rm(join(options.cacheDir, 'data', name!, 'index.json'));
    const again = await packFiles(options, { tokenizer });
    expect(again.rowsAt([0])).toEqual((await directly(options)).slice(0, 1));
    again.close();
    await writeFile(options.paths[0]!, '{"text":""}\n');
    await expect(packFiles(options, { tokenizer })).rejects.toMatchObject({ code: 'DATA_EMPTY' });
    await writeFile(options.paths[0]!, '{"text":"a"}\n{"txt":1}\n');
    await expect(packFiles(options, { tokenizer })).rejects.toMatchObject({ code: 'DATA_BAD_ROWS' });
    // Rows that turn out to be bad during rendering count too, also at the end of a short file.
    const rows = [
      [1, 2],
      [1, 2],
      [1, 70_000],
    ].map((input_ids) => JSON.stringify({ input_ids }));
    await writeFile(options.paths[0]!, rows.join('\n'));
    await expect(packFiles(options, { tokenizer })).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
      values: { rows: 3, bad: 1 },
    });
    // The error counts the rows that cannot be read and those that cannot be rendered.
    await writeFile(options.paths[0]!, ['{', ...rows].join('\n'));
    await expect(packFiles(options, { tokenizer })).rejects.toMatchObject({ values: { rows: 4, bad: 2 } });
    expect(await sets(options)).toEqual([name]);
  });

  it('may be packed by several runs in parallel', async () => {
    const options = await world(texts);
    const all = await Promise.all([1, 2, 3].map(() => packFiles(options, { tokenizer })));
    expect(new Set(all.map(({ key }) => key)).size).toBe(1);
    for (const packed of all) {
      expect(packed.row(packed.rows - 1)).toEqual((await directly(options)).at(-1));
      packed.close();
    }
    expect(await sets(options)).toHaveLength(1);
  });

  it('are kept for the last eight sets; abandoned folders are deleted', async () => {
    const options = await world(texts);
    const root = join(options.cacheDir, 'data');
    const seconds = NOW / 1000;
    for (const [partial, age] of [
      ['.partial-old', 2 * DAY_MS],
      ['.partial-new', 0],
    ] as const) {
      await mkdir(join(root, partial), { recursive: true });
      await utimes(join(root, partial), seconds - age / 1000, seconds - age / 1000);
    }
    for (let i = 0; i < 10; i++) {
      (await packFiles({ ...options, sequenceLength: 8 + i }, { tokenizer })).close();
    }
    const left = await sets(options);
    expect(left.filter((name) => name.startsWith('.'))).toEqual(['.partial-new']);
    expect(left).toHaveLength(1 + 8);
  });
});
