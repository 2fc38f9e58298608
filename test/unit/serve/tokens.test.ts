import { expect, it } from 'vitest';
import { testServer } from './server.ts';

it('turns texts into tokens and back, and describes the tokenizer, as lm-eval needs it', async () => {
  const { ask, refused, generator } = await testServer();
  const { tokenizer } = generator;
  const prompt = 'Call me Ishmael. Straße 🐋';
  const { tokens, count } = await ask('/tokenize', { prompt, add_special_tokens: false });
  expect(tokens).toEqual(tokenizer.encode(prompt, { special: false }));
  expect(count).toBe(tokens.length);
  expect((await ask('/tokenize', { prompt })).tokens).toEqual(tokenizer.encode(prompt));
  expect(await ask('/detokenize', { tokens })).toEqual({ prompt });
  const info = await ask('/tokenizer_info');
  expect(info).toMatchObject({ eos_token: '<|end_of_text|>', bos_token: '<|begin_of_text|>' });
  expect((await ask('/tokenize', { prompt: info.eos_token, add_special_tokens: false })).tokens).toEqual([
    tokenizer.eosId,
  ]);
  expect(await ask('/detokenize', { tokens: [tokenizer.eosId] })).toEqual({ prompt: info.eos_token });
  const messages = [{ role: 'user', content: 'hi' }];
  expect((await ask('/tokenize', { messages })).count).toBeGreaterThan(1);
  expect((await refused('/tokenize', {})).status).toBe(400);
  expect((await refused('/detokenize', { tokens: ['x'] })).status).toBe(400);
});

it('serves health and metrics', async () => {
  const { ask, send, events } = await testServer({ answer: () => ({ text: ' one two', ends: true }) });
  expect(await ask('/health')).toEqual({ status: 'ok' });
  await events('/v1/completions', { model: 'nano', prompt: 'x' });
  const text = await (await send('/metrics')).text();
  expect(text).toMatch(/swarm_serve_requests_total\{path="\/v1\/completions",status="200"\} 1/);
  expect(text).toMatch(/swarm_serve_tokens_total\{kind="completion"\} [1-9]/);
  expect(text).toMatch(/swarm_serve_first_token_seconds_count 1/);
  expect(text).toMatch(/swarm_serve_sequences\{state="waiting"\} 0/);
});
