import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ReadOptions, readDocuments } from '../../../lora/data/text.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'text-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function read(path: string | string[], options?: ReadOptions): Promise<string[]> {
  const documents: string[] = [];
  for await (const document of readDocuments(path, options)) documents.push(document);
  return documents;
}

describe('text on disk', () => {
  it('is one document per .txt, one per line of .jsonl, folders in the order of their names', async () => {
    const folder = join(dir, 'folder');
    await mkdir(folder);
    await writeFile(join(folder, 'b.txt'), 'second\n');
    await writeFile(join(folder, 'a.txt'), 'first');
    await writeFile(
      join(folder, 'c.jsonl'),
      '{"text":"third"}\r\n\n{"text":"four\\nth","more":1}\n{"text":""}\n',
    );
    await writeFile(join(folder, 'notes.md'), 'not data');
    expect(await read(folder)).toEqual(['first', 'second\n', 'third', 'four\nth']);
    expect(await read([join(folder, 'c.jsonl'), join(folder, 'a.txt')])).toEqual([
      'third',
      'four\nth',
      'first',
    ]);
  });

  it('names file and line of a row that is not {"text": …}', async () => {
    for (const [i, line] of ['{"text":', '{"txt":"a"}', '"text"', '{"text":3}', 'null'].entries()) {
      const file = join(dir, `bad-${i}.jsonl`);
      await writeFile(file, `{"text":"good"}\n${line}\n`);
      await expect(read(file), line).rejects.toMatchObject({ code: 'DATA_ROW', values: { file, line: 2 } });
    }
  });

  it('says what cannot be read', async () => {
    const empty = join(dir, 'empty');
    await mkdir(empty);
    await writeFile(join(dir, 'data.csv'), 'text');
    for (const path of [join(dir, 'missing.txt'), empty, join(dir, 'data.csv')]) {
      await expect(read(path), path).rejects.toMatchObject({
        code: 'DATA_UNREADABLE',
        values: { file: path },
      });
    }
  });

  it('stops when told to', async () => {
    const file = join(dir, 'long.txt');
    await writeFile(file, 'text');
    await expect(read(file, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
  });
});
