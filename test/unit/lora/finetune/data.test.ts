import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { SwarmError } from '../../../../common/errors.ts';
import { packRunData } from '../../../../lora/finetune/data.ts';
import type { PackedPart } from '../../../../lora/finetune/listener.ts';
import { resolveSpec } from '../../../../lora/finetune/settings/settings.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { characterTokenizer } from '../../../utils/models/character-tokenizer.ts';

const tokenizer = characterTokenizer(300);
const SHARE = { heldOut: 0.5, badRowShare: 0.2 };

/** Packs records of tokens, of which every tenth has a token that the tokenizer does not have, after a broken record. */
async function packed(given: object | ((path: string) => object), seed = 0) {
  const dir = await temporaryFolder();
  await mkdir(join(dir, 'model'));
  const records = Array.from({ length: 40 }, (_, i) => ({ input_ids: [1, i, i % 10 === 0 ? 70_000 : 2] }));
  const path = join(dir, 'data.jsonl');
  await writeFile(path, ['{', ...records.map((record) => JSON.stringify(record))].join('\n'));
  const data = typeof given === 'function' ? given(path) : given;
  const spec = resolveSpec({ base: join(dir, 'model'), data: { train: [path], ...data }, seed });
  const parts: PackedPart[] = [];
  const bad: number[] = [];
  const warnings: SwarmError[] = [];
  const listener = {
    onData: (part: PackedPart) => parts.push(part),
    onBadRow: ({ origin }: { origin: { row: number } }) => bad.push(origin.row),
    onWarning: (warning: SwarmError) => warnings.push(warning),
  };
  const where = { cacheDir: join(dir, 'cache'), now: 0, signal: new AbortController().signal };
  const { data: rows, heldOut } = await packRunData(spec, where, { tokenizer, listener });
  rows.close();
  heldOut?.close();
  return { parts, bad, warnings, digests: [rows.key, heldOut?.key] };
}

it('bad records of a held-out share count together with those of the training data', async () => {
  const { parts, bad } = await packed(SHARE);
  expect(parts).toMatchObject([
    { part: 'train', read: { rows: 41, bad: 5 } },
    { part: 'held-out', read: null },
  ]);
  expect(bad.sort((a, b) => a - b)).toEqual([1, 2, 12, 22, 32]);
});

it('the limit for bad records counts those of both parts', async () => {
  // Each part alone has fewer than five bad records.
  await expect(packed({ heldOut: 0.5, badRowShare: 4.5 / 41 })).rejects.toMatchObject({
    code: 'DATA_BAD_ROWS',
    values: { rows: 41, bad: 5 },
  });
});

it('gives a warning if the training data contains the held-out data', async () => {
  const { warnings } = await packed((path) => ({ heldOut: [path], badRowShare: 0.2 }));
  expect(warnings).toMatchObject([{ code: 'HELD_OUT_OVERLAP', values: { share: 1 } }]);
  expect((await packed(SHARE)).warnings).toEqual([]);
});

it('a held-out share is the same for every seed', async () => {
  const [first, second] = [await packed(SHARE, 1), await packed(SHARE, 2)];
  expect(first.digests).toEqual(second.digests);
  expect(first.parts.map(({ tally }) => tally)).toEqual(second.parts.map(({ tally }) => tally));
});
