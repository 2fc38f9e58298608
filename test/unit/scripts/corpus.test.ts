import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { predictedTokens } from '../../../lora/data/row.ts';
import { loadTokenizer, type TextTokenizer } from '../../../lora/data/tokenizer.ts';
import { PassageSampler } from '../../../scripts/pretrain/corpus.ts';
import { makeTinyModel } from '../../utils/models/tiny-model.ts';

let dir: string;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  dir = await makeTinyModel(await mkdtemp(join(tmpdir(), 'corpus-')));
  tokenizer = await loadTokenizer(dir);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const text = Array.from(
  { length: 40 },
  (_, i) => `It was the year ${1700 + i}. Was it the best of times? It was!`,
).join(' ');

describe('passages', () => {
  const rowsOf = (seed: number, epoch: number) =>
    new PassageSampler({ sequenceLength: 48 }, { speeches: [{ name: 'a', text }], tokenizer }).rows(
      seed,
      epoch,
    );

  it('contain the whole text once per epoch, start at sentences, and end it once', () => {
    const rows = rowsOf(1, 0);
    const labels = rows.flatMap((row) => [...row.labels]).filter((label) => label !== -100);
    expect(rows.reduce((sum, row) => sum + predictedTokens(row), 0)).toBe(labels.length);
    expect(labels.filter((label) => label === tokenizer.eosId)).toHaveLength(1);
    const joined = tokenizer.decode(labels).replaceAll(' ', '');
    for (let i = 0; i < 40; i++) expect(joined.split(`year${1700 + i}`), `sentence ${i}`).toHaveLength(2);
    for (const { ids, segments } of rows) {
      segments.forEach((segment, t) => {
        const starts = segment !== 0 && segment !== segments[t - 1];
        if (starts) expect(ids[t]).toBe(tokenizer.bosId);
      });
    }
  });

  it('are cut at other places in every epoch, and equal for equal seeds', () => {
    expect(rowsOf(1, 0)).toEqual(rowsOf(1, 0));
    expect(rowsOf(1, 1)).not.toEqual(rowsOf(1, 0));
    expect(rowsOf(2, 0)).not.toEqual(rowsOf(1, 0));
  });
});
