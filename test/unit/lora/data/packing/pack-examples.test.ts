import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Example, ExampleBody } from '../../../../../lora/data/examples.ts';
import { type PackingOptions, packExamples } from '../../../../../lora/data/packing/pack-examples.ts';
import { newTally } from '../../../../../lora/data/packing/tally.ts';
import { openRenderer, type Renderer } from '../../../../../lora/data/render/renderer.ts';
import type { Row } from '../../../../../lora/data/row.ts';
import { RowReport } from '../../../../../lora/data/row-report.ts';
import { packedRows } from '../../../../../scripts/pretrain/pack-documents.ts';
import { TINY_TEXT } from '../../../../utils/models/tiny-model.ts';
import { type TinyDeps, tinyDeps, tinyTrainer } from '../../../../utils/models/tiny-trainer.ts';
import { textRenderer } from '../../../../utils/text-renderer.ts';

let dir: string;
let deps: TinyDeps;
let renderer: Renderer;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rows-'));
  deps = await tinyDeps(dir);
  renderer = await openRenderer({ dir: deps.modelDir, template: 'plain', now: 0 }, deps);
});
afterAll(async () => {
  await renderer.close();
  await rm(dir, { recursive: true, force: true });
});

const LENGTH = 48;
const examples = (bodies: readonly ExampleBody[]): Example[] =>
  bodies.map((body, i) => ({ origin: { file: 'data.jsonl', row: i + 1 }, ...body }) as Example);

async function pack(bodies: readonly ExampleBody[], options: Partial<PackingOptions> = {}) {
  const tally = newTally();
  const report = options.report ?? new RowReport();
  for (const _ of bodies) report.see();
  const all: Row[] = [];
  for await (const row of packExamples(examples(bodies), renderer, {
    sequenceLength: LENGTH,
    report,
    tally,
    ...options,
  })) {
    all.push(row);
  }
  return { rows: all, tally, report };
}

const words = TINY_TEXT.split(/\s+/);
const chats: ExampleBody[] = Array.from({ length: 24 }, (_, i) => ({
  kind: 'messages',
  messages: [
    { role: 'user', content: words.slice(i, i + 1 + (i % 5)).join(' ') },
    { role: 'assistant', content: words.slice(i + 3, i + 4 + ((i * 5) % 7)).join(' ') },
  ],
}));

describe('rows of examples', () => {
  it('equal those of packDocuments for plain text', async () => {
    const text = fc.array(fc.string({ unit: 'grapheme', maxLength: 200 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(text, async (texts) => {
        const { rows } = await pack(texts.map((text) => ({ kind: 'text', text })));
        expect(rows).toEqual(await packedRows(texts, deps.tokenizer, { sequenceLength: LENGTH }));
      }),
      { numRuns: 30 },
    );
  });

  it('give the same loss packed and unpacked', async () => {
    const trainer = tinyTrainer(deps, { sequenceLength: LENGTH });
    const loss = async (packing: PackingOptions['packing']) => {
      const { rows, tally } = await pack(chats, { packing });
      const losses = await trainer.evaluate(rows);
      const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
      expect(tokens).toBe(tally.trainedTokens);
      return { rows: rows.length, tokens, mean: losses.reduce((sum, row) => sum + row.lossSum, 0) / tokens };
    };
    const alone = await loss('none');
    expect(alone.rows).toBe(chats.length);
    for (const packing of ['bfd', 'wrapped', 'auto'] as const) {
      const packed = await loss(packing);
      expect(packed.rows).toBeLessThan(alone.rows);
      expect(packed.tokens).toBe(alone.tokens);
      expect(Math.abs(packed.mean - alone.mean)).toBeLessThan(1e-5);
    }
    await trainer.dispose();
  });

  it('are counted, with their samples and tokens', async () => {
    const { rows, tally } = await pack(chats);
    const used = rows.reduce(
      (sum, { segments }) => sum + segments.filter((segment) => segment > 0).length,
      0,
    );
    expect(tally).toMatchObject({
      samples: 24,
      rows: rows.length,
      rowTokens: used,
      truncated: 0,
      untrained: 0,
    });
    // The last token of each of the 24 samples is only a label, so it takes no place in a row.
    expect(tally.sampleTokens).toBe(used + 24);
    expect(tally.rowTokens / (tally.rows * LENGTH)).toBeGreaterThan(0.7);
  });

  it('contain long samples cut by the truncation mode, and count them', async () => {
    const long: ExampleBody = { kind: 'completion', prompt: TINY_TEXT, completion: ' It was.' };
    const answer = deps.tokenizer.encode(' It was.', { special: false }).length + 1;
    const shorten = await pack([long]);
    expect(shorten.tally).toMatchObject({ truncated: 1, rows: 1, trainedTokens: answer });
    const cases = {
      'keep-start': { truncated: 0, untrained: 1, rows: 0 },
      'keep-end': { truncated: 1, untrained: 0, trainedTokens: answer },
      drop: { dropped: 1, rows: 0 },
      split: { split: 1, truncated: 0, trainedTokens: answer },
    } as const;
    for (const [truncation, counts] of Object.entries(cases)) {
      const { tally } = await pack([long], { truncation: truncation as keyof typeof cases });
      expect(tally, truncation).toMatchObject(counts);
    }
  });

  it('contain one sample per answer with trainOn turns', async () => {
    const messages = ['a', 'b', 'c', 'd'].map((content, i) => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content,
    }));
    const whole: ExampleBody = { kind: 'messages', messages };
    const turns = { ...renderer, trainOn: 'turns' } as const;
    const tally = newTally();
    const options = { sequenceLength: LENGTH, report: new RowReport(), tally };
    for await (const _ of packExamples(examples([whole]), turns, options));
    const { tally: once } = await pack([whole]);
    expect(tally).toMatchObject({ samples: 2, trainedTokens: once.trainedTokens });
    expect(tally.sampleTokens).toBeGreaterThan(once.sampleTokens);
  });

  it('leave out untrained samples, and examples that cannot be rendered, which are reported', async () => {
    const report = new RowReport({ badRowShare: 1 });
    const { tally } = await pack(
      [
        { kind: 'messages', messages: [{ role: 'user', content: 'no answer' }] },
        { kind: 'tokens', ids: [1, 2, 99_999], labels: [1, 2, 99_999] },
        { kind: 'tokens', ids: [2, 3, 4], labels: [-100, -100, 4] },
      ],
      { report },
    );
    expect(tally).toMatchObject({ samples: 2, untrained: 1, rows: 1, trainedTokens: 1 });
    expect(tally.untrainedRows).toEqual([
      { origin: { file: 'data.jsonl', row: 1 }, reason: expect.stringContaining('no answer') },
    ]);
    expect(report.summary()).toMatchObject({
      bad: 1,
      reasons: [{ code: 'ROW_TOKENS', count: 1, rows: [{ origin: { row: 2 } }] }],
    });
  });

  it('name at most ten untrained samples, each with its reason', async () => {
    const words = TINY_TEXT.repeat(3);
    const longPrompt: ExampleBody = { kind: 'completion', prompt: words, completion: 'It was' };
    const silent: ExampleBody = { kind: 'tokens', ids: [1, 2], labels: [-100, -100] };
    const { tally } = await pack([longPrompt, ...Array<ExampleBody>(11).fill(silent)], {
      truncation: 'keep-start',
    });
    expect(tally.untrained).toBe(12);
    expect(tally.untrainedRows.map(({ origin }) => origin.row)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(tally.untrainedRows[0]!.reason).toContain(`${LENGTH + 1} tokens`);
  });

  it('stop at the first bad row if none is allowed, and when the signal aborts', async () => {
    const bad: ExampleBody = { kind: 'tokens', ids: [1], labels: [2] };
    await expect(pack([bad], { report: new RowReport({ badRowShare: 0 }) })).rejects.toMatchObject({
      code: 'DATA_BAD_ROWS',
    });
    await expect(pack(chats, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
    await expect(pack(chats, { sequenceLength: 1 })).rejects.toMatchObject({ code: 'PACK_LENGTH' });
  });

  it('need no template for plain text', async () => {
    const plain = packExamples(examples([{ kind: 'text', text: 'It was' }]), textRenderer(deps.tokenizer), {
      sequenceLength: LENGTH,
      report: new RowReport(),
    });
    expect((await plain.next()).value?.segments[0]).toBe(1);
  });
});
