import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nanoModel } from '../../../../common/samples.ts';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { tokenBytes } from '../../../../lora/generate/row-cache.ts';
import { continued, openDecoder, type TestDecoder } from '../../../utils/models/generate.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

let cacheDir: string;
let engine: Engine;
let opened: TestDecoder;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'scheduler-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
  opened = await openDecoder(join(FIXTURES, 'llama-tiny-tied'), cacheDir, engine);
});
afterAll(async () => {
  await opened.decoder.dispose();
  await rm(cacheDir, { recursive: true, force: true });
});

/** Prompts of different lengths. */
const PROMPTS = Array.from({ length: 6 }, (_, i) =>
  Array.from({ length: 3 + 4 * i }, (_, t) => (7 * i + 5 * t * t + 3) % 250),
);
const SAMPLING = { temperature: 1.5, topK: 40 };

describe('continuing sequences together', () => {
  test('gives each the tokens that it gets alone, whatever joins and leaves', async () => {
    const { served } = await opened.adapter(join(FIXTURES, 'llama-tiny-tied', 'adapter'));
    const requests = PROMPTS.map((tokens, i) => ({
      tokens,
      maxTokens: 4 + 5 * (i % 3),
      sampling: { ...SAMPLING, seed: i },
      adapter: i % 2 === 0 ? null : served,
    }));
    const alone = [];
    for (const { tokens, ...rest } of requests) alone.push(await continued(opened.scheduler(), tokens, rest));
    const together = opened.scheduler();
    const all = await Promise.all(requests.map(({ tokens, ...rest }) => continued(together, tokens, rest)));
    expect(all.map(({ ids }) => ids)).toEqual(alone.map(({ ids }) => ids));
    expect(together.status()).toMatchObject({ running: 0, waiting: 0, cacheBytes: 0 });
  });

  test('ends at an end token, and at the end of the context', async () => {
    const [prompt] = PROMPTS as [number[]];
    const { ids } = await continued(opened.scheduler(), prompt);
    const end = ids[3]!;
    const stopped = await continued(opened.scheduler(), prompt, { endTokens: [end] });
    expect(stopped.ids).toEqual(ids.slice(0, ids.indexOf(end) + 1));
    expect(stopped.reason).toBe('end');
    const full = await continued(opened.scheduler(), prompt, { maxTokens: 1000 });
    expect(full.ids).toHaveLength(64 - prompt.length);
    expect(full.reason).toBe('length');
  });

  test('computes a known beginning only once, but never with another adapter', async () => {
    const { served } = await opened.adapter(join(FIXTURES, 'llama-tiny-tied', 'adapter'));
    const prompt = PROMPTS[5]!;
    const scheduler = opened.scheduler();
    const first = await continued(scheduler, prompt);
    expect(first.chosen[0]!.cachedTokens).toBe(0);
    const again = await continued(scheduler, prompt);
    expect(again.chosen[0]!.cachedTokens).toBe(prompt.length - 1);
    expect(again.ids).toEqual(first.ids);
    const longer = await continued(scheduler, [...prompt, ...first.ids.slice(0, 10), 9]);
    expect(longer.chosen[0]!.cachedTokens).toBe(prompt.length + 10);
    const fresh = await continued(opened.scheduler(), [...prompt, ...first.ids.slice(0, 10), 9]);
    expect(longer.ids).toEqual(fresh.ids);
    const adapted = await continued(scheduler, prompt, { adapter: served });
    expect(adapted.chosen[0]!.cachedTokens).toBe(0);
    scheduler.forget(served);
    expect((await continued(scheduler, prompt, { adapter: served })).chosen[0]!.cachedTokens).toBe(0);
  });

  test('gives the same tokens if memory is short', async () => {
    const expected = [];
    for (const tokens of PROMPTS) expected.push((await continued(opened.scheduler(), tokens)).ids);
    // The memory has space for two sequences, so a third one waits.
    const cacheBytes = 2 * 256 * tokenBytes(opened.base.config);
    const scheduler = opened.scheduler({ cacheBytes });
    let most = 0;
    const watch = () => {
      most = Math.max(most, scheduler.status().running);
    };
    const all = await Promise.all(PROMPTS.map((tokens) => continued(scheduler, tokens, { onToken: watch })));
    expect(all.map(({ ids }) => ids)).toEqual(expected);
    expect(most).toBeLessThanOrEqual(3);
  });

  test('puts the youngest sequence back if the caches outgrow the memory', async () => {
    // Caches grow in steps of 256 tokens. The memory has space for two sequences until one of them is longer than that.
    const nano = await openDecoder(nanoModel(), cacheDir, engine, 300);
    const cacheBytes = 2 * 256 * tokenBytes(nano.base.config);
    const prompts = [0, 1].map((i) => Array.from({ length: 200 }, (_, t) => (31 * t + 977 * i) % 4000));
    const request = { maxTokens: 80, sampling: SAMPLING };
    const expected = [];
    for (const tokens of prompts) expected.push((await continued(nano.scheduler(), tokens, request)).ids);
    const scheduler = nano.scheduler({ cacheBytes });
    const counts: number[] = [];
    const onToken = () => counts.push(scheduler.status().running);
    const both = await Promise.all(
      prompts.map((tokens) => continued(scheduler, tokens, { ...request, onToken })),
    );
    expect(both.map(({ ids }) => ids)).toEqual(expected);
    // Both sequences run at first. Then one of them runs alone, and the other continues after its end.
    expect(counts).toContain(2);
    expect(counts.filter((count) => count === 1).length).toBeGreaterThan(40);
    await nano.decoder.dispose();
  });

  test('stops computing what was cancelled, waiting or running', async () => {
    const scheduler = opened.scheduler({ rows: 1 });
    const [running, waiting] = [new AbortController(), new AbortController()];
    let tokens = 0;
    const onToken = () => {
      if (++tokens === 3) running.abort(new Error('enough'));
    };
    const first = continued(scheduler, PROMPTS[0]!, { signal: running.signal, onToken, maxTokens: 50 });
    const second = continued(scheduler, PROMPTS[1]!, { signal: waiting.signal });
    waiting.abort(new Error('gone'));
    await expect(second).rejects.toThrow('gone');
    await expect(first).rejects.toThrow('enough');
    expect(tokens).toBe(3);
    expect(scheduler.status()).toMatchObject({ running: 0, waiting: 0 });
    const late = continued(scheduler, PROMPTS[1]!, { signal: AbortSignal.abort(new Error('late')) });
    await expect(late).rejects.toThrow('late');
    expect((await continued(scheduler, PROMPTS[2]!, { maxTokens: 2 })).ids).toHaveLength(2);
  });

  test('continues a request that comes in answer to the end of the last one', async () => {
    const scheduler = opened.scheduler({ rows: 1 });
    const controller = new AbortController();
    const onToken = () => controller.abort(new Error('enough'));
    const { signal } = controller;
    const first = continued(scheduler, PROMPTS[0]!, { signal, onToken, maxTokens: 50 });
    const { ids } = await first.catch(() => continued(scheduler, PROMPTS[1]!, { maxTokens: 3 }));
    expect(ids).toHaveLength(3);
  });

  test('refuses requests when too many wait', async () => {
    const scheduler = opened.scheduler({ waiting: 2 });
    const all = PROMPTS.slice(0, 3).map((tokens) => continued(scheduler, tokens, { maxTokens: 2 }));
    await expect(all[2]).rejects.toMatchObject({ code: 'GENERATE_BUSY', values: { waiting: 2 } });
    await Promise.all(all.slice(0, 2));
  });

  test('scores from a given token on, and uses known beginnings', async () => {
    const { signal } = new AbortController();
    const tokens = PROMPTS[4]!;
    const request = { tokens, adapter: null, top: 2, client: '' };
    const scheduler = opened.scheduler();
    const whole = await scheduler.score({ ...request, from: 1 }, signal);
    expect(whole.map(({ id }) => id)).toEqual(tokens);
    expect(whole[0]).toEqual({ id: tokens[0], logprob: null, top: null });
    const part = await scheduler.score({ ...request, from: 15 }, signal);
    expect(part.slice(0, 15).every(({ logprob }) => logprob === null)).toBe(true);
    for (const [i, { logprob }] of part.slice(15).entries())
      expect(logprob).toBeCloseTo(whole[15 + i]!.logprob!, 4);
    expect(await scheduler.score({ ...request, tokens: [4], from: 1 }, signal)).toEqual([
      { id: 4, logprob: null, top: null },
    ]);
  });
});
