import { describe, expect, it, vi } from 'vitest';
import { BODY_BYTES, MAX_CHARACTERS } from '../../../serve/http/fields.ts';
import { FAKE_LOGPROB, fakeScore } from '../../utils/models/fake-generator.ts';
import { testServer } from './server.ts';

describe('POST /v1/completions', () => {
  it('takes prompts as text, texts, ids and lists of ids, and answers them in order', async () => {
    const { ask, generator } = await testServer({
      answer: ({ tokens }) => ({ text: ` answer ${tokens.length}`, ends: true }),
    });
    const complete = (prompt: unknown) => ask('/v1/completions', { model: 'nano', prompt });
    const prefix = generator.tokenizer.prefix.length;
    const ids = generator.tokenizer.encode('Call me', { special: false });
    expect((await complete('Call me')).choices[0].text).toBe(` answer ${prefix + ids.length}`);
    expect((await complete(ids)).choices[0].text).toBe(` answer ${ids.length}`);
    const texts = await complete(['Call me', 'Call me Ishmael']);
    expect(texts.choices.map(({ index }: { index: number }) => index)).toEqual([0, 1]);
    const lists = await complete([ids, [...ids, 5], [7]]);
    const answers = [ids.length, ids.length + 1, 1].map((length) => ` answer ${length}`);
    expect(lists.choices.map(({ text }: { text: string }) => text)).toEqual(answers);
    expect(lists).toMatchObject({
      object: 'text_completion',
      model: 'nano',
      choices: [{ finish_reason: 'stop', logprobs: null }, {}, {}],
      usage: { prompt_tokens: 2 * ids.length + 2 },
    });
    expect(lists.usage.total_tokens).toBe(lists.usage.prompt_tokens + lists.usage.completion_tokens);
  });

  it('has the defaults of OpenAI, and passes sampling on', async () => {
    const { ask, generator } = await testServer();
    const { choices, usage } = await ask('/v1/completions', { model: 'nano', prompt: 'x', stop: null });
    expect(usage.completion_tokens).toBe(16);
    expect(choices[0].finish_reason).toBe('length');
    expect(generator.submitted[0]!.sampling).toMatchObject({ temperature: 1, topP: 1 });
    const body = { model: 'nano', prompt: 'x', temperature: 0.5, top_p: 0.9, seed: 7, n: 2, stop: ['d'] };
    const stopped = await ask('/v1/completions', body);
    expect(stopped.choices.map(({ text }: { text: string }) => text)).toEqual([' a b c ', ' a b c ']);
    expect(generator.submitted.slice(1).map(({ sampling }) => sampling)).toMatchObject([
      { temperature: 0.5, topP: 0.9, seed: 7 },
      { temperature: 0.5, topP: 0.9, seed: 8 },
    ]);
  });

  it('answers lm-eval: an echo with scores, and exactly one token after it, even if it ends the text', async () => {
    const { ask, generator } = await testServer({ answer: () => ({ text: '', ends: true }) });
    const prompt = generator.tokenizer.encode('It was the best of times', { special: false });
    const body = { model: 'nano', prompt: [prompt], temperature: 0, max_tokens: 1, logprobs: 1, echo: true };
    const { choices } = await ask('/v1/completions', body);
    const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0].logprobs;
    expect(choices[0].text).toBe('It was the best of times');
    for (const list of [tokens, token_logprobs, top_logprobs, text_offset]) {
      expect(list).toHaveLength(prompt.length + 1);
    }
    expect([token_logprobs[0], top_logprobs[0]]).toEqual([null, null]);
    expect(tokens.slice(0, -1).join('')).toBe('It was the best of times');
    for (let at = 1; at < prompt.length; at++) {
      const { logprob, top } = fakeScore(prompt, at);
      expect(token_logprobs[at]).toBe(logprob);
      const isGreedy = Math.max(...(Object.values(top_logprobs[at]) as number[])) === token_logprobs[at];
      expect(isGreedy).toBe(top[0]!.id === prompt[at]);
    }
    expect(token_logprobs.at(-1)).toBe(FAKE_LOGPROB);
    expect(generator.submitted[0]).toMatchObject({ maxTokens: 1, logprobs: 1 });
  });

  it('scores a prompt alone with max_tokens 0', async () => {
    const { ask, generator } = await testServer();
    const body = { model: 'nano', prompt: 'one two', max_tokens: 0, echo: true, logprobs: 0 };
    const { choices, usage } = await ask('/v1/completions', body);
    expect(choices[0]).toMatchObject({ text: 'one two', finish_reason: 'length' });
    expect(choices[0].logprobs.tokens).toHaveLength(usage.prompt_tokens);
    expect(usage.completion_tokens).toBe(0);
    expect(generator.submitted).toEqual([]);
    const silent = await ask('/v1/completions', { ...body, echo: false });
    expect(silent.choices[0]).toMatchObject({ text: '' });
  });

  it('lists the end of a text with its log-probability, and none of the tokens of a stop string', async () => {
    const { ask } = await testServer({ answer: () => ({ text: ' one two three', ends: true }) });
    const body = { model: 'nano', prompt: 'x', logprobs: 2, max_tokens: 50 };
    const ended = (await ask('/v1/completions', body)).choices[0];
    expect(ended.logprobs.tokens.at(-1)).toBe('<|end_of_text|>');
    expect(ended.logprobs.tokens.slice(0, -1).join('')).toBe(ended.text);
    expect(Object.keys(ended.logprobs.top_logprobs[0]).length).toBeGreaterThanOrEqual(2);
    const stopped = (await ask('/v1/completions', { ...body, stop: ' three' })).choices[0];
    expect(stopped).toMatchObject({ text: ' one two', finish_reason: 'stop' });
    expect(stopped.logprobs.tokens.join('')).toBe(' one two');
  });

  it('streams pieces, then the usage if the client asks for it', async () => {
    const { events } = await testServer({ answer: () => ({ text: ' héllo wörld', ends: true }) });
    const body = { model: 'nano', prompt: 'x', n: 2, logprobs: 1, max_tokens: 50 };
    const plain = await events('/v1/completions', body);
    for (const index of [0, 1]) {
      const own = plain.map(({ choices }) => choices[0]).filter((choice) => choice.index === index);
      expect(own.map(({ text }) => text).join('')).toBe(' héllo wörld');
      expect(own.map(({ finish_reason }) => finish_reason).filter((reason) => reason !== null)).toEqual([
        'stop',
      ]);
      expect(own.at(-1).finish_reason).toBe('stop');
      expect(own.flatMap(({ logprobs }) => logprobs.tokens).at(-1)).toBe('<|end_of_text|>');
      const offsets = own.flatMap(({ logprobs }) => logprobs.text_offset);
      expect(offsets).toEqual(offsets.toSorted((a: number, b: number) => a - b));
    }
    const counted = await events('/v1/completions', { ...body, stream_options: { include_usage: true } });
    expect(counted.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: expect.any(Number) } });
    expect(counted[0]!.usage).toBeNull();
  });

  it('refuses bodies with millions of values because of their number, before it looks at each value', async () => {
    const { refused } = await testServer();
    const count = Math.floor(BODY_BYTES / 3) - 100;
    const bodies = [
      { prompt: Array(count).fill(1) },
      { prompt: Array(count).fill(-1) },
      { prompt: 'x', stop: Array(count).fill(1) },
      { prompt: 'x', unknown: Array(count).fill(1) },
    ];
    for (const body of bodies) {
      const { status, message } = await refused('/v1/completions', { model: 'nano', ...body });
      expect([status, message]).toEqual([400, expect.stringMatching(/\b(262144|20000)\b/)]);
    }
  });

  it('decodes ids only if they fit into the context, and the client asks for their text', async () => {
    const { ask, refused, generator } = await testServer();
    const decode = vi.spyOn(generator.tokenizer, 'decode');
    const request = { model: 'nano', max_tokens: 0 };
    const long = await refused('/v1/completions', { ...request, prompt: Array(600).fill(7), echo: true });
    expect(long.code).toBe('context_length_exceeded');
    expect(decode).not.toHaveBeenCalled();
    await ask('/v1/completions', { ...request, prompt: [7, 8], echo: true });
    expect(decode).toHaveBeenCalledWith([7, 8]);
  });

  it('refuses what it cannot do by name', async () => {
    const { refused, ask } = await testServer();
    const good = { model: 'nano', prompt: 'x', max_tokens: 1 };
    const bad: [object, string][] = [
      [{ suffix: 'end' }, 'suffix'],
      [{ best_of: 3 }, 'best_of'],
      [{ presence_penalty: 0.5 }, 'presence_penalty'],
      [{ logit_bias: { 5: 1 } }, 'logit_bias'],
      [{ n: 0 }, 'n'],
      [{ n: 17 }, 'n'],
      [{ temperature: -1 }, 'temperature'],
      [{ top_p: 0 }, 'top_p'],
      [{ max_tokens: -1 }, 'max_tokens'],
      [{ logprobs: 21 }, 'logprobs'],
      [{ stop: Array.from({ length: 17 }, () => 'x') }, 'stop'],
      [{ stop: 'x'.repeat(1025) }, 'stop'],
      [{ prompt: [] }, 'prompt'],
      [{ prompt: Array.from({ length: 257 }, () => 'x') }, 'prompt'],
      [{ prompt: [5000] }, 'prompt'],
      [{ prompt: ['x'.repeat(MAX_CHARACTERS), 'x'] }, 'prompt'],
      [{ prompt: undefined }, 'prompt'],
      [{ prompt: null }, 'prompt'],
      [{ prompt: [[1], []] }, 'prompt'],
      [{ prompt: [[1], 'x'] }, 'prompt'],
      [{ prompt: [1, 'x'] }, 'prompt'],
      [{ prompt: Array(256).fill(Array(1025).fill(1)) }, 'prompt'],
      [{ stop: Array(20_001).fill(1) }, 'stop'],
      [{ model: undefined }, 'model'],
    ];
    for (const [change, param] of bad) {
      const { status, ...error } = await refused('/v1/completions', { ...good, ...change });
      expect([status, error.type], JSON.stringify(change)).toEqual([400, 'invalid_request_error']);
      expect(error.param, error.message!).toBe(param);
    }
    // Defaults, and parameters that only OpenAI's own service knows, are no problem.
    const extra = {
      suffix: null,
      best_of: 1,
      presence_penalty: 0,
      user: 'u',
      store: true,
      service_tier: 'auto',
    };
    expect((await ask('/v1/completions', { ...good, ...extra })).choices).toHaveLength(1);
  });

  it('names the wrong value, what is expected, and what to do', async () => {
    const { refused } = await testServer();
    const cases: [object, string[]][] = [
      [{ n: 99 }, ['99', '16']],
      [{ temperature: 'hot' }, ['"hot"', 'number']],
      [{ max_tokens: 'y'.repeat(500) }, [`"${'y'.repeat(60)}…"`]],
      [{ stop: [1] }, ['1 item', '1024', '16']],
      [{ logprobs: true }, ['true', '20']],
      [{ logprobs: {} }, ['object']],
      [{ prompt: { a: 1 } }, ['text', 'ids']],
      [{ prompt: [1, 'x'] }, ['"x"']],
      [{ best_of: 3 }, ['best_of', 'docs/serving.md']],
    ];
    for (const [change, facts] of cases) {
      const { message } = await refused('/v1/completions', { model: 'nano', prompt: 'x', ...change });
      for (const fact of facts) expect(message, JSON.stringify(change)).toContain(fact);
    }
    const nested = await refused('/v1/chat/completions', { model: 'nano', messages: [{ content: 1 }] });
    expect(nested).toMatchObject({ status: 400, param: 'messages.0.role' });
    expect(nested.message).toContain('nothing');
    expect((await refused('/v1/nowhere')).message).toContain('docs/serving.md');
  });

  it('refuses a prompt that does not fit with the code that clients know', async () => {
    const { refused, ask } = await testServer({ context: 32 });
    const { status, code, message } = await refused('/v1/completions', {
      model: 'nano',
      prompt: Array.from({ length: 30 }, () => 5),
      max_tokens: 3,
    });
    expect([status, code]).toEqual([400, 'context_length_exceeded']);
    // A request without a limit takes the rest of the context.
    const { usage } = await ask('/v1/completions', {
      model: 'nano',
      prompt: Array.from({ length: 30 }, () => 5),
    });
    expect(usage.completion_tokens).toBe(2);
    expect(message).toMatch(/32.*33.*30.*3/);
  });
});
