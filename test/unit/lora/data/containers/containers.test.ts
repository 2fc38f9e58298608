import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { constants, createZstdDecompress, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCsv } from '../../../../../lora/data/containers/csv.ts';
import { CsvParser } from '../../../../../lora/data/containers/csv-parser.ts';
import { readText } from '../../../../../lora/data/containers/file-bytes.ts';
import { readJson } from '../../../../../lora/data/containers/json.ts';
import { JsonSplitter } from '../../../../../lora/data/containers/json-splitter.ts';
import { jsonLines, readJsonLines } from '../../../../../lora/data/containers/jsonl.ts';
import { MAX_ROW_BYTES, type RawRow, type RowBatches } from '../../../../../lora/data/containers/raw-rows.ts';
import { cutFrames } from '../../../../../lora/data/containers/zstd-frames.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'containers-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

let files = 0;
async function file(content: string | Uint8Array, name = `${files++}`): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, content);
  return path;
}

async function all(batches: RowBatches): Promise<RawRow[]> {
  const rows: RawRow[] = [];
  for await (const batch of batches) rows.push(...batch);
  return rows;
}

const values = (rows: readonly RawRow[]) => rows.map((row) => ('value' in row ? row.value : row.code));

/** Cuts bytes into pieces that end anywhere, also inside characters. */
function pieces(text: string | Uint8Array, cuts: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text as string);
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...ends].map((start, i) => bytes.subarray(start, ends[i]));
}

async function* stream<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

const cuts = fc.array(fc.nat(), { maxLength: 12 });
const rowArbitrary = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ maxDepth: 3 }), {
  maxKeys: 4,
  noNullPrototype: true,
});

/** Columns of rows, which distinguish a row from an object around rows. */
const ROWS = { wanted: new Set(['messages', 'text']) };

describe('JSON lines', () => {
  it('are read completely wherever the chunks are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(rowArbitrary), cuts, fc.boolean(), async (rows, at, crlf) => {
        const text = rows.map((row) => JSON.stringify(row)).join(crlf ? '\r\n' : '\n');
        const read = await all(jsonLines(stream(pieces(text, at))));
        expect(values(read)).toEqual(JSON.parse(JSON.stringify(rows)));
        expect(read.map(({ row }) => row)).toEqual(rows.map((_, i) => i + 1));
      }),
    );
  });

  it('name the column of an error, and no line, because the record is the line', async () => {
    const rows = await all(jsonLines(stream([Buffer.from('{"a":1}\n{"a":1,}\n')])));
    expect(rows[1]).toMatchObject({ row: 2, reason: expect.stringContaining('column 8') });
    expect(rows[1]).toMatchObject({ reason: expect.not.stringMatching(/line|position/) });
  });

  it('report broken, too long and non-UTF-8 lines by number, and continue', async () => {
    const long = `{"text":"${'x'.repeat(100)}"}`;
    const bytes = Buffer.concat([
      Buffer.from(`{"a":1}\n\n{"a":\n[1]\n${long}\n{"a":"`),
      Buffer.from([0xe9]),
      Buffer.from('"}\n  \t\r\n{"a":2}'),
    ]);
    for (const size of [1, 7, 1000]) {
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
      const rows = await all(jsonLines(stream(chunks), { maxBytes: 50 }));
      expect(rows.map((row) => [row.row, 'code' in row ? row.code : row.value])).toEqual([
        [1, { a: 1 }],
        [3, 'ROW_NOT_JSON'],
        [4, 'ROW_NOT_OBJECT'],
        [5, 'ROW_TOO_LONG'],
        [6, 'ROW_NOT_UTF8'],
        [8, { a: 2 }],
      ]);
    }
  });

  it('may start with a byte-order mark', async () => {
    expect(values(await all(readJsonLines(await file('\ufeff{"a":1}\n'), {})))).toEqual([{ a: 1 }]);
  });
});

describe('a JSON array', () => {
  it('is split into its elements wherever the chunks are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), cuts, fc.constantFrom(0, 1), (rows, at, indent) => {
        const splitter = new JsonSplitter({ maxBytes: MAX_ROW_BYTES });
        const elements = pieces(JSON.stringify(rows, null, indent), at).flatMap((chunk) =>
          splitter.push(chunk),
        );
        splitter.end();
        expect(elements.map(({ bytes }) => JSON.parse(bytes!.toString()))).toEqual(
          JSON.parse(JSON.stringify(rows)),
        );
      }),
    );
  });

  it('is found in an object around it, beside lists that hold no rows', async () => {
    const wrapped = {
      version: '1',
      splits: ['a', 'b'],
      empty: [],
      nested: { data: [{ no: 1 }] },
      data: [{ a: 1 }, { a: [{}] }],
    };
    for (const indent of [0, 2]) {
      const rows = await all(readJson(await file(JSON.stringify(wrapped, null, indent)), ROWS));
      expect(values(rows)).toEqual(wrapped.data);
    }
  });

  it('may be a single row, on one line or several, but not an object around rows', async () => {
    const single = { messages: [{ role: 'user' }], text: 'a', id: 3 };
    for (const indent of [0, 2]) {
      const path = await file(`${JSON.stringify(single, null, indent)}\n`);
      expect(await all(readJson(path, ROWS))).toEqual([{ row: 1, value: single }]);
    }
    const wrapped = { text: 'what this is', data: [{ text: 'a' }, { text: 'b' }] };
    expect(values(await all(readJson(await file(JSON.stringify(wrapped)), ROWS)))).toEqual(wrapped.data);
  });

  it('may be JSON lines under another name', async () => {
    const path = await file('\n{"messages":[{"role":"user"}]}\n{"messages":[]}\n');
    const rows = await all(readJson(path, ROWS));
    expect(rows.map(({ row }) => row)).toEqual([2, 3]);
    expect(values(rows)).toEqual([{ messages: [{ role: 'user' }] }, { messages: [] }]);
  });

  it('of one long line is read in linear time', async () => {
    // A reader that searched the whole line again after every chunk would take minutes.
    const rows = Array.from({ length: 60_000 }, (_, i) => ({ text: `row number ${i}, without a line end` }));
    expect(await all(readJson(await file(JSON.stringify(rows)), ROWS))).toHaveLength(60_000);
  });

  it('reports elements that are not UTF-8', async () => {
    const rows = await all(readJson(await file(Buffer.from('[{"a":"caf\xe9"}, {"a":1}]', 'latin1')), ROWS));
    expect(values(rows)).toEqual(['ROW_NOT_UTF8', { a: 1 }]);
  });

  it('reports elements that are not rows', async () => {
    const deep = '['.repeat(300) + ']'.repeat(300);
    const rows = await all(readJson(await file(`[{"a":1}, 3, {"a" 1}, ${deep}, , {"a":2}]`), ROWS));
    expect(values(rows)).toEqual([
      { a: 1 },
      'ROW_NOT_OBJECT',
      'ROW_NOT_JSON',
      'ROW_NESTING',
      'ROW_NOT_JSON',
      { a: 2 },
    ]);
    const splitter = new JsonSplitter({ maxBytes: 10 });
    expect(splitter.push(Buffer.from(`["${'x'.repeat(20)}", 1]`))).toMatchObject([
      { why: 'long' },
      { bytes: {} },
    ]);
  });

  it.each([
    ['', 'empty'],
    ['{"a": 1}', 'no-rows'],
    ['"text"', 'not-json'],
    ['[{"a": 1}}', 'not-json'],
    ['[{"a": 1}, {"b', 'cut-off'],
    ['[{"a": 1}] [', 'text-after-the-end'],
    ['{"train": [{"a": 1}], "test": [{"a": 1}]}', 'two-arrays'],
  ])('refuses %s as %s', async (text, failure) => {
    await expect(all(readJson(await file(text), ROWS))).rejects.toMatchObject({
      code: 'DATA_JSON',
      values: { failure },
    });
  });
});

describe('CSV', () => {
  const write = (records: readonly (readonly string[])[], separator: string, newline: string): string =>
    records
      .map((fields) => fields.map((field) => `"${field.replaceAll('"', '""')}"`).join(separator) + newline)
      .join('');
  const field = fc.string({ unit: fc.constantFrom('a', 'é', '"', ',', '\n', '\r', ' ', '\t', '🙂') });

  it('reads any quoted fields wherever the text is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(field, { minLength: 1, maxLength: 4 })),
        cuts,
        fc.constantFrom('\n', '\r\n'),
        (records, at, newline) => {
          const text = write(records, ',', newline);
          const parser = new CsvParser({ separator: ',', maxCharacters: 10_000 });
          const ends = [...new Set(at.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b);
          const read = [0, ...ends].flatMap((start, i) => parser.push(text.slice(start, ends[i])));
          read.push(...parser.end());
          expect(read.map(({ fields }) => fields)).toEqual(records);
          expect(read.every(({ fault }) => fault === null)).toBe(true);
          const before = (n: number) => write(records.slice(0, n), ',', newline).split('\n').length;
          expect(read.map(({ line }) => line)).toEqual(records.map((_, n) => before(n)));
        },
      ),
    );
  });

  it('reads any unquoted fields unchanged', () => {
    const plain = fc
      .string({ unit: fc.constantFrom('a', 'é', "'", ' ', '"', '1') })
      .filter((text) => text[0] !== '"');
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constant('x'), plain)), (records) => {
        const parser = new CsvParser({ separator: ',', maxCharacters: 10_000 });
        const read = parser.push(records.map((fields) => fields.join(',')).join('\n'));
        expect([...read, ...parser.end()].map(({ fields }) => fields)).toEqual(records);
      }),
    );
  });

  const csv = async (text: string, separator: '\t' | null = null) =>
    all(readCsv(await file(text), { separator }));

  it('names columns by the header, with any of the separators', async () => {
    const expected = [{ prompt: 'a', completion: 'b, "c"\nd' }];
    expect(values(await csv('prompt,completion\r\na,"b, ""c""\nd"\r\n\r\n'))).toEqual(expected);
    expect(values(await csv('\ufeffprompt;"completion"\na;"b, ""c""\nd"'))).toEqual(expected);
    expect(values(await csv('prompt\tcompletion\na\t"b, ""c""\nd"\n', '\t'))).toEqual(expected);
    expect(values(await csv('text\none\n"two, three"\n'))).toEqual([{ text: 'one' }, { text: 'two, three' }]);
  });

  it('reports bad rows by line, and continues', async () => {
    const rows = await csv('a,b\n1,"x\ny"\n1,2,3\n"1"2,3\n4,5\n6,"open');
    expect(rows.map((row) => [row.row, 'code' in row ? row.code : row.value])).toEqual([
      [2, { a: '1', b: 'x\ny' }],
      [4, 'ROW_COLUMNS'],
      [5, 'ROW_QUOTES'],
      [6, { a: '4', b: '5' }],
      [7, 'ROW_QUOTES'],
    ]);
  });

  it('reports rows that are not UTF-8, and refuses such a header', async () => {
    const text = Buffer.from('t\xc3\xa9xt,b\ncaf\xe9,1\ncaf\xc3\xa9,2\n', 'latin1');
    const rows = await all(readCsv(await file(text), { separator: null }));
    expect(values(rows)).toEqual(['ROW_NOT_UTF8', { téxt: 'café', b: '2' }]);
    const header = await file(Buffer.from('caf\xe9\n1\n', 'latin1'));
    await expect(all(readCsv(header, { separator: null }))).rejects.toMatchObject({ code: 'DATA_ENCODING' });
  });

  it('refuses a million columns before comparing them', async () => {
    const text = `${Array.from({ length: 1_000_000 }, (_, i) => `c${i}`).join(',')}\n1\n`;
    await expect(csv(text)).rejects.toMatchObject({ code: 'DATA_CSV' });
  });

  it.each(['', '\n\n', 'a,a\n1,2\n', '"a"b,c\n', 'text\rone\rtwo\r'])(
    'refuses a header like %j',
    async (text) => {
      await expect(csv(text)).rejects.toMatchObject({ code: 'DATA_CSV' });
    },
  );

  it('refuses a quote that is never closed', async () => {
    const text = `a,b\n1,2\n"${'x'.repeat(MAX_ROW_BYTES + 10)}`;
    await expect(csv(text)).rejects.toMatchObject({ code: 'DATA_CSV', values: { line: 3 } });
  });
});

describe('a file', () => {
  const text = async (path: string): Promise<string> => {
    let read = '';
    for await (const part of readText(path, {})) read += part;
    return read;
  };
  const content = 'né 🙂 '.repeat(60_000);

  it('is decompressed by its content, not by its name', async () => {
    for (const bytes of [
      Buffer.from(content),
      gzipSync(content),
      zstdCompressSync(content),
      Buffer.concat([gzipSync(content.slice(0, 500)), gzipSync(content.slice(500))]),
      // One skippable frame, and three frames: one with a checksum, one without content, and one without a checksum.
      Buffer.concat([
        Buffer.from('502a4d1804000000aaaaaaaa', 'hex'),
        zstdCompressSync(content.slice(0, 500), { params: { [constants.ZSTD_c_checksumFlag]: 1 } }),
        zstdCompressSync(''),
        zstdCompressSync(content.slice(500)),
      ]),
    ]) {
      expect((await text(await file(bytes))) === content).toBe(true);
    }
  });

  it('of several zstd frames is read completely wherever the chunks end', async () => {
    const frame = fc.tuple(fc.string({ maxLength: 2000 }), fc.boolean()).map(([content, checksum]) => ({
      content,
      bytes: zstdCompressSync(content, { params: { [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0 } }),
    }));
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 6 }), cuts, async (frames, at) => {
        const packed = Buffer.concat(frames.map(({ bytes }) => bytes));
        const unpacked = Readable.from(cutFrames(stream(pieces(packed, at)))).pipe(createZstdDecompress());
        const parts: Buffer[] = [];
        for await (const part of unpacked) parts.push(part as Buffer);
        expect(Buffer.concat(parts).toString()).toBe(frames.map(({ content }) => content).join(''));
      }),
    );
  });

  it('in zstd is refused wherever it is cut', async () => {
    // Node 22.18 itself takes a cut archive for a complete one.
    const packed = zstdCompressSync('a line\n'.repeat(50));
    for (let end = 1; end < packed.length; end++) {
      const cut = cutFrames(stream([packed.subarray(0, end)]));
      await expect(
        cut.next().then(() => cut.next()),
        String(end),
      ).rejects.toMatchObject({ code: 'Z_BUF_ERROR' });
    }
  });

  it('is refused if the archive is truncated or damaged', async () => {
    const packed = gzipSync(content);
    const damaged = gzipSync(content);
    damaged[20]! ^= 0xff;
    const cut = zstdCompressSync(content).subarray(0, -1);
    for (const bytes of [packed.subarray(0, packed.length / 2), damaged, cut]) {
      await expect(text(await file(bytes))).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
    }
    await expect(text(join(dir, 'missing'))).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
  });

  it('that decompresses to 512 MiB in one line takes less than 256 MiB of memory', async () => {
    const frame = zstdCompressSync(Buffer.alloc(16 * 1024 * 1024, 'a'));
    const end = zstdCompressSync('\n{"a":1}\n');
    // Some kilobytes decompress to 512 MiB.
    const path = await file(Buffer.concat([...Array(32).fill(frame), end]));
    const before = process.memoryUsage().rss;
    const rows = await all(readJsonLines(path, {}));
    expect(rows).toMatchObject([
      { row: 1, code: 'ROW_TOO_LONG' },
      { row: 2, value: { a: 1 } },
    ]);
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024);
  });

  it('is refused if it is not UTF-8', async () => {
    for (const bytes of [
      Buffer.from('\ufefftext', 'utf16le'),
      Buffer.from('text', 'utf16le'),
      Buffer.from('caf\xe9 au lait', 'latin1'),
      Buffer.from([0x61, 0xc3]),
    ]) {
      await expect(text(await file(bytes))).rejects.toMatchObject({ code: 'DATA_ENCODING' });
    }
  });
});
