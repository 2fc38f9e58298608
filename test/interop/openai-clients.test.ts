/** Clients of OpenAI's API against a real server with models/nano: `openai` and `@ai-sdk/openai-compatible`. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nanoAdapter, type ServedNano, serveNano } from '../utils/models/served-nano.ts';

const KEY = 'a-key-for-the-tests-of-clients';
const messages = [{ role: 'user' as const, content: 'Who are you?' }];
let served: ServedNano;
let client: OpenAI;

beforeAll(async () => {
  served = await serveNano(async (folder) => {
    await writeFile(join(folder, 'keys'), `${KEY}\n`);
    await nanoAdapter(join(folder, 'story'), 1);
    return [
      '--template',
      'chatml',
      '--api-key-file',
      join(folder, 'keys'),
      '--adapter',
      join(folder, 'story'),
    ];
  });
  client = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: KEY, maxRetries: 0 });
}, 120_000);
afterAll(() => served?.stop());

describe('the client "openai"', () => {
  it('lists the models', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(['nano', 'story']);
    expect(await client.models.retrieve('story')).toMatchObject({ id: 'story', object: 'model' });
  });

  it('completes texts and batches of ids, the same each time at temperature 0', async () => {
    const body = { model: 'nano', temperature: 0, max_tokens: 8 };
    const one = await client.completions.create({ ...body, prompt: 'Once upon a time' });
    expect(one.choices[0]!.text).toMatch(/\w/);
    expect(one.usage).toMatchObject({ completion_tokens: 8 });
    const response = await fetch(`${served.url}/tokenize`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Once upon a time' }),
    });
    const { tokens } = (await response.json()) as { tokens: number[] };
    const batch = await client.completions.create({ ...body, prompt: [tokens, [...tokens, 5]] });
    expect(batch.choices.map(({ index }) => index)).toEqual([0, 1]);
    expect(batch.choices[0]!.text).toBe(one.choices[0]!.text);
    const adapted = await client.completions.create({ ...body, prompt: 'Once upon a time', model: 'story' });
    expect(adapted.choices[0]!.text).not.toBe(one.choices[0]!.text);
  });

  it('gets the scores of a prompt and exactly one token after it', async () => {
    const { choices } = await client.completions.create({
      model: 'nano',
      prompt: 'The sea was calm',
      echo: true,
      logprobs: 3,
      max_tokens: 1,
      temperature: 0,
    });
    const { tokens, token_logprobs, top_logprobs } = choices[0]!.logprobs!;
    expect(token_logprobs![0]).toBeNull();
    expect(token_logprobs!.slice(1).every((logprob) => logprob < 0)).toBe(true);
    // The token after the prompt is the most likely one, and its score is the same number as the highest score.
    expect(token_logprobs!.at(-1)).toBe(Math.max(...Object.values(top_logprobs!.at(-1)!)));
    expect(tokens!.join('')).toContain('The sea was calm');
  });

  it('streams a chat with its usage', async () => {
    const body = { model: 'story', messages, max_tokens: 12, temperature: 0 };
    const whole = await client.chat.completions.create(body);
    const stream = await client.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    const reasons: (string | null)[] = [];
    let usage: OpenAI.CompletionUsage | null = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      if (chunk.choices[0]) reasons.push(chunk.choices[0].finish_reason);
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]!.message.content);
    expect(reasons.at(-1)).toBe(whole.choices[0]!.finish_reason);
    expect(usage).toMatchObject({ prompt_tokens: whole.usage!.prompt_tokens });
  });

  it('has a helper that collects a stream', async () => {
    const runner = client.chat.completions.stream({ model: 'nano', messages, max_tokens: 5, logprobs: true });
    const final = await runner.finalChatCompletion();
    expect(final.choices[0]!.message.role).toBe('assistant');
    expect(final.choices[0]!.logprobs!.content!.length).toBeGreaterThan(0);
  });

  it('can leave a stream, and the next request is answered', async () => {
    const stream = await client.completions.create({
      model: 'nano',
      prompt: 'x',
      max_tokens: 400,
      stream: true,
    });
    for await (const _ of stream) break;
    const { choices } = await client.completions.create({ model: 'nano', prompt: 'x', max_tokens: 1 });
    expect(choices).toHaveLength(1);
  });

  it('gets errors of the classes that it expects', async () => {
    const body = { model: 'nano', prompt: 'x', max_tokens: 1 };
    const wrong = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'wrong-key', maxRetries: 0 });
    await expect(wrong.models.list()).rejects.toThrow(AuthenticationError);
    const unknown = client.completions.create({ ...body, model: 'none' });
    await expect(unknown).rejects.toThrow(NotFoundError);
    await expect(unknown).rejects.toMatchObject({ code: 'model_not_found' });
    const long = client.completions.create({ ...body, max_tokens: 5000 });
    await expect(long).rejects.toThrow(BadRequestError);
    await expect(long).rejects.toMatchObject({ code: 'context_length_exceeded' });
    const tools = client.chat.completions.create({
      model: 'nano',
      messages,
      tools: [{ type: 'function', function: { name: 'f' } }],
    });
    await expect(tools).rejects.toMatchObject({ status: 400, param: 'tools' });
  });
});

describe('the client "@ai-sdk/openai-compatible"', () => {
  const provider = () =>
    createOpenAICompatible({ name: 'swarm', baseURL: `${served.url}/v1`, apiKey: KEY, includeUsage: true });
  const prompt = [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'Who are you?' }] }];

  it('generates and streams the same chat', async () => {
    const model = provider().chatModel('story');
    const options = { prompt, maxOutputTokens: 10, temperature: 0, seed: 1 };
    const whole = await model.doGenerate(options);
    const [content] = whole.content;
    expect(whole.usage.outputTokens.total).toBeGreaterThan(0);
    const { stream } = await model.doStream(options);
    let text = '';
    let last: unknown;
    for await (const part of stream) {
      if (part.type === 'text-delta') text += part.delta;
      last = part;
    }
    expect({ type: 'text', text }).toMatchObject({ ...content });
    expect(last).toMatchObject({ type: 'finish', finishReason: whole.finishReason });
  });

  it('completes a text', async () => {
    const { content } = await provider()
      .completionModel('nano')
      .doGenerate({ prompt, maxOutputTokens: 4, temperature: 0 });
    expect(content[0]).toMatchObject({ type: 'text' });
  });

  it('passes on the message of an error', async () => {
    const failed = provider().chatModel('none').doGenerate({ prompt });
    await expect(failed).rejects.toMatchObject({ statusCode: 404, message: expect.stringContaining('none') });
  });
});
