import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import type { Example } from '../../../../lora/data/examples.ts';
import { packExamples } from '../../../../lora/data/packing/pack-examples.ts';
import { BUILT_IN_TEMPLATES } from '../../../../lora/data/render/built-in.ts';
import type { Row } from '../../../../lora/data/row.ts';
import { RowReport } from '../../../../lora/data/row-report.ts';
import { evaluate, evaluateExamples } from '../../../../lora/evaluate/evaluate.ts';
import type { ModelBundle } from '../../../../lora/evaluate/model-bundle.ts';
import { type ScoreProgress, windows } from '../../../../lora/evaluate/score.ts';
import type { BadRow } from '../../../../protocol/api/job-creation.ts';
import { TINY_TEXT } from '../../../utils/models/tiny-model.ts';
import { tinyDeps, tinyRows, tinySettings, tinyTrainer } from '../../../utils/models/tiny-trainer.ts';
import { textRenderer } from '../../../utils/text-renderer.ts';

let dir: string;
let bundle: ModelBundle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'evaluate-'));
  bundle = { ...(await tinyDeps(dir)), adapter: null };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const clauses = TINY_TEXT.split(', ');

describe('evaluating text', () => {
  it('is the mean over the predicted tokens of all rows, however they are grouped', async () => {
    const together = await evaluate(bundle, { texts: clauses });
    let lossSum = 0;
    let tokens = 0;
    let bytes = 0;
    for (const clause of clauses) {
      const alone = await evaluate(bundle, { texts: [clause] });
      // The loss counts every token of the text. The beginning-of-text token before it is given, and does not count.
      expect(alone.tokens).toBe(bundle.tokenizer.encode(clause, { special: false }).length);
      lossSum += alone.loss * alone.tokens;
      tokens += alone.tokens;
      bytes += Buffer.byteLength(clause);
    }
    expect(together).toMatchObject({ tokens, bytes, rows: clauses.length });
    expect(together.loss).toBeCloseTo(lossSum / tokens, 5);
    expect(together.perplexity).toBeCloseTo(Math.exp(together.loss), 6);
    expect(together.bitsPerByte).toBeCloseTo((together.loss * tokens) / Math.LN2 / bytes, 6);
  });

  it('predicts every token of a row longer than the context once', async () => {
    const long = `${TINY_TEXT} ${TINY_TEXT}`;
    const tokens = bundle.tokenizer.encode(long).length - 1;
    expect(tokens).toBeGreaterThan(3 * bundle.model.config.maxPositions);
    expect(await evaluate(bundle, { texts: [long] })).toMatchObject({ tokens, rows: 1 });
  });

  it('is the same for any number of texts, which are read as a stream', async () => {
    const texts = Array.from({ length: 700 }, (_, i) => clauses[i % clauses.length]!);
    const parts = [texts.slice(0, 300), texts.slice(300)].map((some) => evaluate(bundle, { texts: some }));
    const [a, b] = await Promise.all(parts);
    const all = await evaluate(bundle, { texts });
    expect(all).toMatchObject({ tokens: a!.tokens + b!.tokens, rows: 700, bytes: a!.bytes! + b!.bytes! });
    expect(all.loss).toBeCloseTo((a!.loss * a!.tokens + b!.loss * b!.tokens) / all.tokens, 5);
  });

  it('reports how many rows are read and how many tokens are scored', async () => {
    const texts = Array.from({ length: 6000 }, (_, i) => clauses[i % clauses.length]!);
    const reports: ScoreProgress[] = [];
    const { tokens } = await evaluate(bundle, { texts, onProgress: (progress) => reports.push(progress) });
    expect(reports.length).toBeGreaterThan(1);
    expect(reports[0]!.tokens).toBeLessThan(tokens);
    expect(reports.at(-1)).toEqual({ rows: 6000, tokens });
  });

  it('scores all of a text, and only the completion of a prompt', async () => {
    const origin = { file: 'x', row: 1 };
    const renderer = textRenderer(bundle.tokenizer);
    const of = (examples: Example[]) =>
      evaluateExamples(bundle, { examples, renderer, report: new RowReport() });
    const asText = clauses.map((text): Example => ({ kind: 'text', origin, text }));
    // The end-of-text token after each example counts too.
    const { tokens } = await evaluate(bundle, { texts: clauses });
    expect(await of(asText)).toMatchObject({ tokens: tokens + clauses.length, rows: clauses.length });
    const [prompt, completion] = ['It was the best of times, it was', ' the worst of times'];
    const whole = bundle.tokenizer.encode(prompt + completion);
    const start = bundle.tokenizer.encode(prompt).length;
    const one = await of([{ kind: 'completion', origin, prompt, completion }]);
    expect(one).toMatchObject({ tokens: whole.length - start + 1, bitsPerByte: null, bytes: null, rows: 1 });
    const untrained: Example = { kind: 'tokens', origin, ids: whole, labels: whole.map(() => -100) };
    await expect(of([untrained])).rejects.toMatchObject({ code: 'EVALUATE_EMPTY' });
  });

  it.each(['auto', 'bfd', 'none'] as const)(
    'is the loss that training measures on the same examples, in %s rows',
    async (packing) => {
      const origin = { file: 'x', row: 1 };
      const examples: Example[] = clauses.flatMap((text): Example[] => [
        { kind: 'text', origin, text },
        { kind: 'completion', origin, prompt: 'it was', completion: ` ${text}` },
      ]);
      const renderer = textRenderer(bundle.tokenizer);
      const sequenceLength = 32;
      const packed = { packing, sequenceLength, report: new RowReport() };
      const rows: Row[] = [];
      for await (const row of packExamples(examples, renderer, packed)) rows.push(row);
      const trainer = tinyTrainer(await tinyDeps(dir), { sequenceLength });
      trainer.setParameters(initialMatrices(trainer.layout, 1));
      const losses = await trainer.evaluate(rows);
      await trainer.dispose();
      const [lossSum, tokens] = [losses.map((row) => row.lossSum), losses.map((row) => row.tokens)].map(
        (values) => values.reduce((sum, value) => sum + value, 0),
      ) as [number, number];
      const measured = await evaluateExamples(bundle, { examples, renderer, report: new RowReport() });
      expect(measured.tokens).toBe(tokens);
      expect(measured.loss).toBeCloseTo(lossSum / tokens, 5);
    },
  );

  it('uses the adapter', async () => {
    const deps = await tinyDeps(dir);
    const trainer = tinyTrainer(deps);
    trainer.setParameters(initialMatrices(trainer.layout, 1));
    await trainer.train({ rows: await tinyRows(deps, 32), steps: 8 });
    const { lora } = tinySettings();
    const untrained = { lora, tensors: initialMatrices(trainer.layout, 1) };
    const base = await evaluate(bundle, { texts: clauses });
    expect(await evaluate({ ...bundle, adapter: untrained }, { texts: clauses })).toEqual(base);
    const trained = await evaluate(
      { ...bundle, adapter: { lora, tensors: trainer.parameters() } },
      { texts: clauses },
    );
    expect(trained.loss).toBeLessThan(0.95 * base.loss);
    const adapted = { ...bundle, adapter: { lora, tensors: trainer.parameters() } };
    const {
      comparison,
      comparisons: _,
      ...alone
    } = await evaluate(adapted, { texts: clauses, against: bundle });
    expect({ ...alone, comparison: null, comparisons: [] }).toEqual(trained);
    expect(comparison).toMatchObject({ examples: clauses.length, verdict: 'better' });
    expect(comparison!.against).toBeCloseTo(base.loss, 6);
    expect(comparison!.change).toBeCloseTo(trained.loss - base.loss, 6);
    expect(comparison!.low).toBeLessThan(comparison!.change);
    expect(comparison!.high).toBeLessThan(0);
    const both = await evaluate(bundle, { texts: clauses, against: [adapted, bundle] });
    expect(both.comparisons).toHaveLength(2);
    expect(both.comparison).toEqual(both.comparisons[0]);
    for (const [i, against] of [adapted, bundle].entries()) {
      const single = await evaluate(bundle, { texts: clauses, against });
      const { adjustedP, ...one } = single.comparison!;
      expect(adjustedP).toBe(one.p);
      expect(both.comparisons[i]).toMatchObject(one);
      expect(single.comparisons).toEqual([single.comparison]);
    }
    const same = await evaluate(bundle, { texts: clauses, against: { ...bundle, adapter: untrained } });
    expect(same.comparison).toMatchObject({ change: 0, p: 1, verdict: 'noise' });
    await trainer.dispose();
  });

  it('reads data files, and reports rows that cannot be used', async () => {
    const data = join(dir, 'rows.jsonl');
    const rows = [...clauses.map((text) => JSON.stringify({ text })), '{"text": 1}'];
    await writeFile(data, rows.join('\n'));
    const bad: string[] = [];
    const options = { data, settings: { badRowShare: 0.5 }, onBadRow: ({ code }: BadRow) => bad.push(code) };
    const found = await evaluate(bundle, options);
    expect(found).toMatchObject({ read: { rows: rows.length, bad: 1 } });
    expect(bad).toHaveLength(1);
    const { tokens: own } = await evaluate(bundle, { texts: clauses });
    expect(found).toMatchObject({ tokens: own + clauses.length, rows: clauses.length });
    // A bad row among the first rows does not stop the evaluation, because the limit applies to the share of all rows.
    const tokens = [[1, 70_000], ...Array.from({ length: 9 }, () => [1, 2, 3])];
    await writeFile(data, tokens.map((input_ids) => JSON.stringify({ input_ids })).join('\n'));
    const few = await evaluate(bundle, { data, settings: { badRowShare: 0.1 } });
    expect(few).toMatchObject({ read: { rows: 10, bad: 1 } });
    for (const wrong of [{}, { data, texts: clauses }, { data, settings: { badRowShare: 7 } }]) {
      await expect(evaluate(bundle, wrong)).rejects.toMatchObject({ code: 'USAGE' });
    }
  });

  it('uses only the first examples with a limit', async () => {
    const some = await evaluate(bundle, { texts: clauses, limit: 3 });
    expect(some).toEqual(await evaluate(bundle, { texts: clauses.slice(0, 3) }));
    const one = await evaluate(bundle, { texts: clauses, limit: 1, against: bundle });
    expect(one.comparison).toMatchObject({ examples: 1, low: null, high: null, verdict: 'noise' });
  });

  it("renders conversations with the template of the model's adapter", async () => {
    const data = join(dir, 'chats.jsonl');
    const turns = [
      { role: 'user', content: 'it was' },
      { role: 'assistant', content: 'the best' },
    ];
    await writeFile(data, JSON.stringify({ messages: turns }));
    await expect(evaluate(bundle, { data })).rejects.toMatchObject({ code: 'TEMPLATE_MISSING' });
    const template = join(dir, 'chat_template.jinja');
    await writeFile(template, BUILT_IN_TEMPLATES.plain);
    const { lora } = tinySettings();
    const trainer = tinyTrainer(await tinyDeps(dir));
    const adapter = { lora, tensors: initialMatrices(trainer.layout, 1), template };
    await trainer.dispose();
    const named = await evaluate(bundle, { data, settings: { template: 'plain' } });
    expect(await evaluate({ ...bundle, adapter }, { data })).toEqual(named);
    expect(await evaluate(bundle, { data, against: { ...bundle, adapter } })).toMatchObject({
      loss: named.loss,
      comparison: { change: 0 },
    });
  });

  it('is an error without a token to predict, and stops when aborted', async () => {
    for (const texts of [[], ['']]) {
      await expect(evaluate(bundle, { texts })).rejects.toMatchObject({ code: 'EVALUATE_EMPTY' });
    }
    const aborted = evaluate(bundle, { texts: clauses, signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('windows over a long row', () => {
  it('predict only supervised tokens, and are left out without any', () => {
    const mask = fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 2, maxLength: 200 });
    fc.assert(
      fc.property(mask, fc.integer({ min: 2, max: 64 }), (trained, length) => {
        const sequence = trained.map((_, i) => i);
        const predicted: number[] = [];
        for (const { labels } of windows(sequence, length, Uint8Array.from(trained))) {
          const here = labels.filter((label) => label !== -100);
          expect(here.length).toBeGreaterThan(0);
          predicted.push(...here);
        }
        expect(predicted).toEqual(sequence.filter((i) => i > 0 && trained[i] === 1));
      }),
    );
  });

  it('predict every token once, in order, with at least half a window before it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 300 }), fc.integer({ min: 2, max: 64 }), (count, length) => {
        const sequence = Array.from({ length: count }, (_, i) => i);
        const predicted: number[] = [];
        for (const { ids, labels } of windows(sequence, length)) {
          expect(ids.length).toBeLessThanOrEqual(length);
          expect(labels.length).toBe(ids.length);
          labels.forEach((label, i) => {
            if (label === -100) return;
            expect(label).toBe(ids[i]! + 1);
            predicted.push(label);
            const context = i + 1;
            expect(context).toBeGreaterThanOrEqual(Math.min(label, Math.floor(length / 2)));
          });
        }
        expect(predicted).toEqual(sequence.slice(1));
      }),
    );
  });
});
