import { expect, it } from 'vitest';
import { MAX_DECODED_IDS } from '../../../serve/http/token-ids.ts';
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

it('admits texts and tokens like other requests, and refuses too many tokens', async () => {
  const { ask, refused } = await testServer({ maxUnansweredPerClient: 1 });
  const messages = [{ role: 'user', content: 'hi' }];
  const first = ask('/tokenize', { messages });
  expect((await refused('/detokenize', { tokens: [1] })).status).toBe(429);
  await first;
  await ask('/detokenize', { tokens: [1] });
  const tooMany = await refused('/detokenize', { tokens: Array(MAX_DECODED_IDS + 1).fill(1) });
  expect(tooMany).toMatchObject({ status: 400, param: 'tokens' });
  for (const tokens of [[-1], [0.5], [1e9], 'x', undefined]) {
    expect(await refused('/detokenize', { tokens })).toMatchObject({ status: 400, param: 'tokens' });
  }
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
