import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Example, ExampleBody } from '../../../../lora/data/examples.ts';
import { type ReadExamplesOptions, readExamples } from '../../../../lora/data/read-examples.ts';
import { RowReport } from '../../../../lora/data/row-report.ts';
import type { BadRow } from '../../../../protocol/api/job-creation.ts';
import { withCode } from '../../../utils/source/codes.ts';

const PARQUET = join(import.meta.dirname, '../../../fixtures/parquet');

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'examples-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

let files = 0;
async function file(content: string | Uint8Array, extension = 'jsonl'): Promise<string> {
  const path = join(dir, `${files++}.${extension}`);
  await writeFile(path, content);
  return path;
}

const lines = (...rows: unknown[]): Promise<string> =>
  file(rows.map((row) => JSON.stringify(row)).join('\n'));

async function read(
  paths: string | string[],
  options: Partial<ReadExamplesOptions> & { share?: number } = {},
): Promise<{ examples: Example[]; bad: BadRow[]; report: RowReport }> {
  const bad: BadRow[] = [];
  const report = new RowReport({ badRowShare: options.share ?? 1, onBad: (row) => bad.push(row) });
  const examples: Example[] = [];
  for await (const example of readExamples(paths, { ...options, report })) examples.push(example);
  report.finish();
  return { examples, bad, report };
}

const bodies = async (...parameters: Parameters<typeof read>): Promise<ExampleBody[]> =>
  (await read(...parameters)).examples.map(({ origin: _, ...body }) => body);

const turns = [
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
];

it('reads a .json file with a single row, also with renamed columns', async () => {
  const single = await file(JSON.stringify({ messages: turns }), 'json');
  expect(await bodies(single)).toEqual([{ kind: 'messages', messages: turns }]);
  const dialog = await file(JSON.stringify({ dialog: turns }), 'json');
  expect(await bodies(dialog, { columns: { messages: 'dialog' } })).toEqual([
    { kind: 'messages', messages: turns },
  ]);
});

describe('format recognition', () => {
  const kinds: [string, object, object][] = [
    ['text', { text: 'a', id: 3 }, { kind: 'text', text: 'a' }],
    ['completion', { prompt: 'a', completion: 'b' }, { kind: 'completion', prompt: 'a', completion: 'b' }],
    [
      'completion of messages',
      { prompt: turns.slice(0, 1), completion: turns.slice(1), tools: [{ name: 't' }] },
      { kind: 'completion', prompt: turns.slice(0, 1), completion: turns.slice(1), tools: [{ name: 't' }] },
    ],
    ['messages', { messages: turns, source: 'x' }, { kind: 'messages', messages: turns }],
    ['messages by another column', { conversations: turns }, { kind: 'messages', messages: turns }],
    [
      'messages with tools',
      {
        messages: [{ role: 'assistant', content: null, tool_calls: [{ id: 1 }], name: null }],
        tools: '[{"name":"t"}]',
      },
      {
        kind: 'messages',
        messages: [{ role: 'assistant', content: '', tool_calls: [{ id: 1 }] }],
        tools: [{ name: 't' }],
      },
    ],
    [
      'messages of parts',
      {
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'a' },
              { type: 'text', text: 'b' },
            ],
          },
        ],
      },
      { kind: 'messages', messages: [{ role: 'user', content: 'ab' }] },
    ],
    [
      'sharegpt',
      {
        system: 'Be brief.',
        conversations: [
          { from: 'human', value: 'Weather?' },
          { from: 'function_call', value: '{"name":"weather","arguments":{"in":"Rome"}}' },
          { from: 'observation', value: 'sun' },
          { from: 'gpt', value: 'Sunny.', weight: 0 },
        ],
      },
      {
        kind: 'messages',
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'Weather?' },
          {
            role: 'assistant',
            content: '',
            tool_calls: [{ type: 'function', function: { name: 'weather', arguments: { in: 'Rome' } } }],
          },
          { role: 'tool', content: 'sun' },
          { role: 'assistant', content: 'Sunny.', weight: 0 },
        ],
      },
    ],
    [
      'alpaca',
      { instruction: 'i', input: '', output: 'o', text: 'all of it' },
      { kind: 'instruction', instruction: 'i', input: '', output: 'o', system: null, history: [] },
    ],
    [
      'alpaca with history',
      { instruction: 'i', input: 'n', output: 'o', system: 's', history: [['a', 'b']] },
      { kind: 'instruction', instruction: 'i', input: 'n', output: 'o', system: 's', history: [['a', 'b']] },
    ],
    [
      'segments',
      {
        segments: [
          { label: false, text: 'a' },
          { label: true, text: 'b' },
        ],
      },
      {
        kind: 'segments',
        segments: [
          { text: 'a', trained: false },
          { text: 'b', trained: true },
        ],
      },
    ],
    ['tokens', { input_ids: [1, 2], text: 'a' }, { kind: 'tokens', ids: [1, 2], labels: [1, 2] }],
    [
      'tokens with padding',
      { input_ids: [0, 1, 2], labels: [-100, -100, 2], attention_mask: [0, 1, 1] },
      { kind: 'tokens', ids: [1, 2], labels: [-100, 2] },
    ],
  ];

  it.each(kinds)('%s', async (_, row, expected) => {
    expect(await bodies(await lines(row))).toEqual([expected]);
    expect(await bodies(await file(JSON.stringify([row]), 'json'))).toEqual([expected]);
  });

  it.each(kinds)('%s, in CSV and TSV', async (_, row, expected) => {
    const quote = (value: unknown): string => {
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      return `"${text.replaceAll('"', '""')}"`;
    };
    for (const [extension, separator] of [
      ['csv', ','],
      ['tsv', '\t'],
    ] as const) {
      const table = [Object.keys(row), Object.values(row).map(quote)].map((cells) => cells.join(separator));
      expect(await bodies(await file(table.join('\r\n'), extension))).toEqual([expected]);
    }
  });

  it('prefers the format that says most about the tokens if a row fits several', async () => {
    const row = { text: 't', prompt: 'p', completion: 'c', messages: turns };
    expect(await bodies(await lines(row))).toMatchObject([{ kind: 'messages' }]);
    expect(await bodies(await lines({ ...row, messages: null }))).toMatchObject([{ kind: 'completion' }]);
    expect(await bodies(await lines(row), { format: 'text' })).toEqual([{ kind: 'text', text: 't' }]);
  });

  it('recognises each file separately, by its first row that fits a format', async () => {
    const mixed = [
      await lines({ text: 'a' }),
      await lines({ id: 1 }, { prompt: 'p', completion: 'c' }, { text: 't' }),
    ];
    const { examples, bad } = await read(mixed);
    expect(examples.map(({ kind, origin }) => [kind, origin.row])).toEqual([
      ['text', 1],
      ['completion', 2],
    ]);
    expect(bad.map(({ code, origin }) => [code, origin.file, origin.row])).toEqual([
      ['ROW_FIELD', mixed[1], 1],
      ['ROW_FIELD', mixed[1], 3],
    ]);
    // Only a row that fits another format gets a hint, which names both formats.
    const named = (reason: string): string[] => reason.match(/\b(completion|text)\b/g) ?? [];
    expect(bad.map(({ reason }) => named(reason).sort())).toEqual([[], ['completion', 'text']]);
  });

  it('fails with the columns of the file and the known formats if no row fits', async () => {
    const path = await lines({ question: 'q', answer: 'a' }, { question: 'q', extra: 1 });
    await expect(read(path)).rejects.toMatchObject({
      code: 'DATA_FORMAT',
      values: { file: path, columns: ['question', 'answer', 'extra'] },
    });
    const columns = { prompt: 'question', completion: 'reply' };
    await expect(read(path, { columns })).rejects.toMatchObject({
      code: 'DATA_FORMAT',
      values: { missing: 'reply' },
    });
    await expect(read(path, { format: 'text' })).rejects.toMatchObject({
      code: 'DATA_FORMAT',
      values: { formats: ['text'], missing: null },
    });
    const dialog = { dialog: [{ speaker: 'user', said: 'Hi' }] };
    const given: Record<string, string>[] = [{}, { messages: 'dialog' }, { role: 'speaker' }];
    for (const columns of given) {
      await expect(read(await lines(dialog), { columns })).rejects.toMatchObject({
        code: 'DATA_FORMAT',
        values: { keys: ['speaker', 'said'] },
        next: expect.stringMatching(/--column messages=dialog --column role=\w+ --column content=/),
      });
    }
    // A list of objects need not be a conversation, so the advice also names the other way.
    const choices = { question: 'q', choices: [{ label: 'A', text: 'a' }] };
    await expect(read(await lines(choices))).rejects.toMatchObject({
      values: { keys: ['label', 'text'] },
      next: expect.stringMatching(/--column messages=choices.*--column prompt=/),
    });
    const both = { sources: [{ title: 't', url: 'u' }], conversation: [{ speaker: 'user', said: 'Hi' }] };
    await expect(read(await lines(both))).rejects.toMatchObject({
      values: { keys: ['speaker', 'said'] },
      next: expect.not.stringContaining('prompt'),
    });
    const long = await lines(...Array.from({ length: 20 }, () => ({ a: 1 })), { text: 'late' });
    await expect(read(long)).rejects.toMatchObject({ code: 'DATA_FORMAT' });
  });
});

describe('columns', () => {
  it('can be renamed by the user', async () => {
    expect(
      await bodies(await lines({ question: 'q', answer: 'a', text: 't' }), {
        columns: { prompt: 'question', completion: 'answer' },
      }),
    ).toEqual([{ kind: 'completion', prompt: 'q', completion: 'a' }]);
    const dialog = [{ speaker: 'user', said: 'Hi', role: 'x' }];
    expect(
      await bodies(await lines({ dialog, messages: 'no' }), {
        columns: { messages: 'dialog', role: 'speaker', content: 'said' },
      }),
    ).toEqual([{ kind: 'messages', messages: [{ role: 'user', content: 'Hi' }] }]);
    const path = await file('body\tother\n"a ""b"""\tc\n', 'tsv');
    expect(await bodies(path, { columns: { text: 'body' } })).toEqual([{ kind: 'text', text: 'a "b"' }]);
  });

  it('are refused if no format has all named fields', async () => {
    const path = await lines({ text: 'a' });
    const wrong: Record<string, string>[] = [{ texts: 'a' }, { prompt: 'a', segments: 'b' }];
    for (const columns of wrong) {
      await expect(read(path, { columns })).rejects.toMatchObject({ code: 'DATA_COLUMNS' });
    }
    await expect(read(path, { format: 'text', columns: { prompt: 'a' } })).rejects.toMatchObject({
      code: 'DATA_COLUMNS',
    });
  });
});

describe('rows that cannot be used', () => {
  it.each([
    [{ text: 3 }, 'ROW_FIELD'],
    [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'ROW_MESSAGE'],
    [{ messages: ['hello'] }, 'ROW_MESSAGE'],
    [{ messages: [{ content: 'x' }] }, 'ROW_MESSAGE'],
    [{ messages: [{ role: 'user' }] }, 'ROW_MESSAGE'],
    [{ messages: [] }, 'ROW_EMPTY'],
    [{ messages: [{ role: 'assistant', content: ' ' }] }, 'ROW_EMPTY'],
    [{ messages: '[{"role"' }, 'ROW_FIELD'],
    [{ conversations: [{ from: 'narrator', value: 'x' }] }, 'ROW_ROLE'],
    [{ prompt: 'p', completion: '' }, 'ROW_EMPTY'],
    [{ prompt: 'p', completion: '\n' }, 'ROW_EMPTY'],
    [{ prompt: 'p', completion: turns }, 'ROW_FIELD'],
    [{ instruction: 'i', output: '' }, 'ROW_EMPTY'],
    [{ instruction: 'i', output: 'o', history: [['a']] }, 'ROW_FIELD'],
    [{ segments: [{ label: false, text: 'x' }] }, 'ROW_EMPTY'],
    [{ segments: [{ label: 1, text: 'x' }] }, 'ROW_FIELD'],
    [{ input_ids: [1, 2], labels: [2, -100] }, 'ROW_TOKENS'],
    [{ input_ids: [1, 2], labels: [1] }, 'ROW_TOKENS'],
    [{ input_ids: [1, -2] }, 'ROW_TOKENS'],
    [{ input_ids: [1], attention_mask: [0] }, 'ROW_EMPTY'],
  ])('%j is %s', async (row, code) => {
    const good: Record<string, object> = {
      text: { text: 'a' },
      messages: { messages: turns },
      conversations: { conversations: [{ from: 'human', value: 'a' }] },
      prompt: { prompt: 'p', completion: 'c' },
      instruction: { instruction: 'i', output: 'o' },
      segments: { segments: [{ label: true, text: 'x' }] },
      input_ids: { input_ids: [1] },
    };
    const path = await lines(good[Object.keys(row)[0]!], row);
    const { examples, bad } = await read(path);
    expect(examples).toHaveLength(1);
    expect(bad).toMatchObject([{ code, origin: { file: path, row: 2 } }]);
  });

  it('are counted by reason, and stop the run if there are too many', async () => {
    const rows = (bad: number, good: number): Promise<string> =>
      lines({ text: 'a' }, ...Array(bad).fill({ txt: 'b' }), ...Array(good - 1).fill({ text: 'c' }));
    const { report, examples } = await read(await rows(2, 98), { share: 0.02 });
    expect(examples).toHaveLength(98);
    expect(report.summary()).toMatchObject({
      rows: 100,
      bad: 2,
      reasons: [{ code: 'ROW_FIELD', count: 2, rows: [{ origin: { row: 2 } }, { origin: { row: 3 } }] }],
    });
    // The share counts all rows, although the bad rows are most of the first rows.
    expect((await read(await rows(14, 986), { share: 0.02 })).examples).toHaveLength(986);
    await expect(read(await rows(14, 986), { share: 0.01 })).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
      values: { rows: 1000, bad: 14 },
      message: expect.stringContaining('1.4 %'),
    });
    await expect(read(await rows(1, 4), { share: 0.02 })).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
      values: { rows: 5, bad: 1 },
    });
    const one = new RowReport();
    one.see();
    one.bad({ origin: { file: 'f', row: 1 }, code: 'ROW_EMPTY', reason: 'it is empty' });
    expect(() => one.finish()).toThrow(withCode('DATA_BAD_ROWS', { rows: 1, bad: 1 }));
    await expect(read(await rows(1, 990), { share: 0 })).rejects.toMatchObject({
      values: { rows: 2, bad: 1 },
    });
  });

  it('are an error if only text is wanted', async () => {
    const texts = async (path: string) => bodies(path, { format: 'text', share: 0 });
    expect(await texts(await lines({ text: 'a', input_ids: [1] }, { text: 'b' }))).toEqual([
      { kind: 'text', text: 'a' },
      { kind: 'text', text: 'b' },
    ]);
    await expect(texts(await lines({ text: 'a' }, { txt: 'b' }))).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
    });
  });

  it('do not include empty texts, which are left out', async () => {
    const { examples, bad } = await read(await lines({ text: 'a' }, { text: '' }, { text: 'b' }));
    expect([examples.length, bad.length]).toEqual([2, 0]);
  });
});

describe('files', () => {
  it('of a folder or pattern are sorted by name, and other files are skipped', async () => {
    const folder = join(dir, 'folder');
    await mkdir(join(folder, 'inner'), { recursive: true });
    await writeFile(join(folder, 'b.txt'), 'second\n');
    await writeFile(join(folder, 'a.txt.gz'), gzipSync('first'));
    await writeFile(
      join(folder, 'c.ndjson'),
      '{"text":"third"}\r\n\n{"text":"fourth","more":1}\n{"text":""}\n',
    );
    await writeFile(join(folder, 'd.csv.zst'), zstdCompressSync('text\nfifth\n'));
    await copyFile(join(PARQUET, 'text-zstd.parquet'), join(folder, 'e.parquet'));
    await writeFile(join(folder, 'README.md'), 'not data');
    await writeFile(join(folder, '.hidden.txt'), 'not data');
    await writeFile(join(folder, 'inner', 'z.txt'), 'inner');
    const texts = async (paths: string | string[]) =>
      (await read(paths)).examples.map((example) => example.kind === 'text' && example.text).slice(0, 5);
    expect(await texts(folder)).toEqual(['first', 'second\n', 'third', 'fourth', 'fifth']);
    expect(await texts(join(folder, '*.txt*'))).toEqual(['first', 'second\n']);
    expect(await texts(join(folder, '**', '*.txt'))).toEqual(['second\n', 'inner']);
    expect(await texts([join(folder, 'inner'), join(folder, 'b.txt')])).toEqual(['inner', 'second\n']);
    // A path that exists is not a pattern.
    const odd = join(dir, 'odd[1]');
    await mkdir(odd);
    await writeFile(join(odd, 'a.txt'), 'odd');
    expect(await texts(odd)).toEqual(['odd']);
  });

  it('are named in the error if they are missing or not data', async () => {
    const empty = join(dir, 'empty');
    await mkdir(empty);
    for (const path of [join(dir, 'missing.txt'), empty, await file('x', 'md')]) {
      await expect(read(path), path).rejects.toMatchObject({
        code: 'DATA_UNREADABLE',
        values: { file: path },
      });
    }
    await expect(read(empty)).rejects.toMatchObject({ next: expect.stringContaining('this folder') });
    // `save_to_disk` in the Python package `datasets` writes Arrow files, and a JSON file that only describes the data.
    const saved = join(dir, 'saved');
    await mkdir(saved);
    await writeFile(join(saved, 'data-00000-of-00001.arrow'), 'ARROW1');
    await writeFile(join(saved, 'dataset_info.json'), '{"features": {}}');
    for (const path of [saved, join(saved, 'data-00000-of-00001.arrow')]) {
      await expect(read(path)).rejects.toMatchObject({
        code: 'DATA_UNREADABLE',
        next: expect.stringContaining('to_parquet'),
      });
    }
    const path = join(dir, 'none-*.txt');
    await expect(read(path)).rejects.toMatchObject({ code: 'DATA_NO_FILES', values: { path } });
    await expect(read(await file('text', 'txt'), { format: 'messages' })).rejects.toMatchObject({
      code: 'DATA_FORMAT',
    });
  });

  it('are read with progress, until the signal aborts', async () => {
    const signal = AbortSignal.abort();
    await expect(read(await file('text', 'txt'), { signal })).rejects.toMatchObject({ name: 'AbortError' });
    const paths = [await file('text', 'txt'), await file(gzipSync('text'), 'txt')];
    const seen: [number, number][] = [];
    await read(paths, { onProgress: (done, total) => seen.push([done, total]) });
    const total = 4 + gzipSync('text').length;
    expect(seen).toEqual([
      [4, total],
      [total, total],
    ]);
  });
});

describe('Parquet written by pyarrow', () => {
  const path = (name: string): string => join(PARQUET, `${name}.parquet`);

  it.each(['none', 'snappy', 'gzip', 'brotli', 'zstd'])(
    'is read with compression %s, in row groups',
    async (codec) => {
      const { examples } = await read(path(`text-${codec}`));
      expect(examples).toEqual(
        Array.from({ length: 25 }, (_, i) => ({
          kind: 'text',
          origin: { file: path(`text-${codec}`), row: i + 1 },
          text: `row ${i} é`,
        })),
      );
    },
  );

  it('is read with lists and structures', async () => {
    expect(await bodies(path('messages'))).toEqual([
      {
        kind: 'messages',
        messages: [
          { role: 'user', content: 'What is the weather?' },
          {
            role: 'assistant',
            content: '',
            tool_calls: [{ type: 'function', function: { name: 'weather', arguments: '{"in": "Rome"}' } }],
          },
        ],
      },
      { kind: 'messages', messages: [{ role: 'user', content: 'Hi' }] },
    ]);
    expect(await bodies(path('tokens'))).toEqual([
      { kind: 'tokens', ids: [5, 6, 7], labels: [-100, 6, 7] },
      { kind: 'tokens', ids: [8, 9], labels: [8, 9] },
    ]);
  });

  it('names all columns in the error if none is wanted', async () => {
    await expect(read(path('text-zstd'), { format: 'messages' })).rejects.toMatchObject({
      code: 'DATA_FORMAT',
      values: { columns: ['text', 'more'] },
    });
  });

  it('is refused if it is empty, truncated, damaged or not Parquet', async () => {
    const bytes = await readFile(path('text-zstd'));
    const damaged = Buffer.from(bytes);
    damaged.fill(0xff, 8, 200);
    for (const content of [
      bytes.subarray(0, -20),
      bytes.subarray(100),
      damaged,
      Buffer.from('text'),
      Buffer.of(),
    ]) {
      await expect(read(await file(content, 'parquet'))).rejects.toMatchObject({ code: 'DATA_PARQUET' });
    }
    // LZ4 is not supported.
    await expect(read(path('text-lz4'))).rejects.toMatchObject({ code: 'DATA_PARQUET' });
  });
});
