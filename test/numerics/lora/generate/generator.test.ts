import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openGenerator } from '../../../../lora/generate/generator.ts';
import type { Generator } from '../../../../lora/generate/types.ts';
import { GREEDY } from '../../../utils/models/generate.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

const DIR = join(FIXTURES, 'llama-tiny-tied');
const { prompt, base: plain, adapter: adapted } = GREEDY['llama-tiny-tied']!;

let cacheDir: string;
let generator: Generator;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'generator-'));
  generator = await openGenerator({ base: DIR, cacheDir, compute: { threads: 1 } });
});
afterAll(async () => {
  await generator.close();
  await rm(cacheDir, { recursive: true, force: true });
});

describe('a generator process', () => {
  test('streams tokens with text, several requests at once, with and without an adapter', async () => {
    const { id } = await generator.addAdapter(join(DIR, 'adapter'));
    expect((await generator.addAdapter(join(DIR, 'adapter'))).id).toBe(id);
    const request = { tokens: prompt, maxTokens: plain.ids.length, endTokens: [], logprobs: 1 };
    const generation = generator.submit(request);
    const other = generator.submit({ ...request, adapter: id });
    let text = '';
    const ids: number[] = [];
    for await (const token of generation) {
      text += token.text;
      ids.push(token.id);
      expect(token.top[0]!.logprob).toBe(token.logprob);
    }
    expect(ids).toEqual(plain.ids);
    const { cachedTokens: _, ...result } = await generation.result;
    expect(result).toEqual({ text, ids, reason: 'length', promptTokens: prompt.length });
    expect(text).toBe(generator.tokenizer.decode(ids));
    expect((await other.result).ids).toEqual(adapted.ids);
    expect(await generator.status()).toMatchObject({ running: 0, waiting: 0, adapters: [id] });
    await generator.removeAdapter(id);
    await expect(generator.submit({ ...request, adapter: id }).result).rejects.toMatchObject({
      code: 'GENERATE_ADAPTER',
      kind: 'notFound',
    });
  });

  test('ends at an end token and at a text', async () => {
    const request = { tokens: prompt, maxTokens: plain.ids.length };
    const at = plain.ids.findIndex((id) => id !== plain.ids[0]);
    const ended = await generator.submit({ ...request, endTokens: [plain.ids[at]!] }).result;
    expect(ended).toMatchObject({ ids: plain.ids.slice(0, at + 1), reason: 'end' });
    expect(ended.text).toBe(generator.tokenizer.decode(plain.ids.slice(0, at)));
    const whole = generator.tokenizer.decode(plain.ids);
    const stop = whole.slice(5, 8);
    const generation = generator.submit({ ...request, endTokens: [], stop: [stop] });
    let text = '';
    for await (const token of generation) text += token.text;
    expect(text).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(await generation.result).toMatchObject({ text, reason: 'stop' });
  });

  test('reads the end tokens of the model, and limits the context to its positions', () => {
    expect(generator.endTokens).toContain(generator.tokenizer.eosId);
    expect(generator.context).toBe(generator.model.config.maxPositions);
  });

  test('scores tokens', async () => {
    const tokens = [...prompt, ...plain.ids];
    const scores = await generator.score({ tokens, top: 1, from: prompt.length });
    for (const [i, logprob] of plain.logprobs.entries())
      expect(scores[prompt.length + i]!.logprob).toBeCloseTo(logprob, 4);
  });

  test('cancels a request whose signal aborts, or whose stream is left', async () => {
    const controller = new AbortController();
    const request = { tokens: prompt, endTokens: [] };
    const first = generator.submit({ ...request, signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(first.result).rejects.toThrow('enough');
    const second = generator.submit(request);
    for await (const _ of second) break;
    await expect(second.result).rejects.toMatchObject({ name: 'AbortError' });
    expect(await generator.status()).toMatchObject({ running: 0 });
  });

  test.each([
    [{ tokens: [] }, 'USAGE'],
    [{ tokens: [99_999] }, 'USAGE'],
    [{ tokens: [1], sampling: { topP: 0 } }, 'USAGE'],
    [{ tokens: [1], logprobs: 21 }, 'USAGE'],
    [{ tokens: [1], stop: [''] }, 'USAGE'],
    [{ tokens: new Array<number>(5000).fill(1) }, 'GENERATE_TOO_LONG'],
  ])('refuses %j', async (request, code) => {
    await expect(generator.submit(request).result).rejects.toMatchObject({ code });
  });

  test('fails what is running when it is closed', async () => {
    const other = await openGenerator({ base: DIR, cacheDir, compute: { threads: 1 } });
    const running = other.submit({ tokens: prompt, endTokens: [] }).result;
    await other.close();
    await expect(running).rejects.toMatchObject({ code: 'GENERATOR_CLOSED' });
    await expect(other.submit({ tokens: prompt }).result).rejects.toMatchObject({ code: 'GENERATOR_CLOSED' });
    await other.close();
  });

  test('refuses an engine other than the processor', async () => {
    const refused = openGenerator({ base: DIR, cacheDir, compute: { engine: 'tfjs' } });
    await expect(refused).rejects.toMatchObject({ code: 'USAGE', values: { engine: 'tfjs' } });
  });
});
