import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../utils/folder.ts';
import { testServer } from './server.ts';

const messages = [
  { role: 'system', content: 'Be brief.' },
  {
    role: 'user',
    content: [
      { type: 'text', text: 'Who ' },
      { type: 'text', text: 'are you?' },
    ],
  },
];
const PROMPT =
  '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n';

describe('POST /v1/chat/completions', () => {
  it('renders the conversation with the chat template and answers', async () => {
    const { ask, generator } = await testServer({ answer: () => ({ text: 'Ishmael.', ends: true }) });
    const answer = await ask('/v1/chat/completions', { model: 'nano', messages });
    const prompt = generator.tokenizer.encode(PROMPT, { special: false });
    expect(generator.submitted[0]!.tokens).toEqual(prompt);
    expect(answer).toMatchObject({
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Ishmael.' },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: prompt.length },
    });
    // Without a limit, the answer may fill the context.
    expect(generator.submitted[0]!.maxTokens).toBe(generator.context - prompt.length);
    const developer = [{ role: 'developer', content: 'Be brief.' }, messages[1]];
    await ask('/v1/chat/completions', { model: 'nano', messages: developer });
    expect(generator.submitted[1]!.tokens).toEqual(prompt);
  });

  it('takes both names of the limit; the newer one counts', async () => {
    const { ask, generator } = await testServer();
    await ask('/v1/chat/completions', { model: 'nano', messages, max_tokens: 3 });
    await ask('/v1/chat/completions', { model: 'nano', messages, max_tokens: 3, max_completion_tokens: 2 });
    expect(generator.submitted.map(({ maxTokens }) => maxTokens)).toEqual([3, 2]);
  });

  it('gives log-probabilities with bytes, without the token that ends the answer', async () => {
    const { ask } = await testServer({ answer: () => ({ text: 'wörld', ends: true }) });
    const body = { model: 'nano', messages, logprobs: true, top_logprobs: 2 };
    const { message, logprobs } = (await ask('/v1/chat/completions', body)).choices[0];
    const tokens = logprobs.content as { token: string; bytes: number[] | null; top_logprobs: object[] }[];
    expect(message.content).toBe('wörld');
    expect(tokens.some(({ token }) => token.includes('end_of_text'))).toBe(false);
    expect(tokens[0]!.top_logprobs).toHaveLength(2);
    expect(tokens[0]!.bytes).toEqual([...Buffer.from(tokens[0]!.token)]);
  });

  it('streams the role first, then text, then the reason, then the usage', async () => {
    const { events } = await testServer({ answer: () => ({ text: 'Call me Ishmael', ends: true }) });
    const body = { model: 'nano', messages, n: 2, stream_options: { include_usage: true } };
    const chunks = await events('/v1/chat/completions', body);
    for (const index of [0, 1]) {
      const own = chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      expect(own[0]).toMatchObject({ delta: { role: 'assistant', content: '' }, finish_reason: null });
      expect(own.map(({ delta }) => delta.content ?? '').join('')).toBe('Call me Ishmael');
      expect(own.at(-1)).toMatchObject({ delta: {}, finish_reason: 'stop' });
    }
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks.at(-1)).toMatchObject({ object: 'chat.completion.chunk', choices: [] });
    expect(chunks.at(-1)!.usage.prompt_tokens).toBeGreaterThan(10);
  });

  it('refuses tools, formats, pictures and unknown roles by name', async () => {
    const { refused, ask } = await testServer();
    const bad: [object, string][] = [
      [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'tools'],
      [{ tool_choice: 'required' }, 'tool_choice'],
      [{ response_format: { type: 'json_object' } }, 'response_format'],
      [{ messages: [] }, 'messages'],
      [{ messages: Array.from({ length: 1001 }, () => messages[0]) }, 'messages'],
      [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages.0.role'],
      [
        { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
        'messages.0.content',
      ],
      [{ top_logprobs: 2 }, 'top_logprobs'],
    ];
    for (const [change, param] of bad) {
      const error = await refused('/v1/chat/completions', { model: 'nano', messages, ...change });
      expect([error.status, error.param], JSON.stringify(change)).toEqual([
        400,
        expect.stringContaining(param),
      ]);
    }
    const neutral = { tools: [], tool_choice: 'auto', response_format: { type: 'text' }, max_tokens: 1 };
    await ask('/v1/chat/completions', { model: 'nano', messages, ...neutral });
  });

  it('uses the template of the adapter, then that of the base, and for all models the one that was chosen', async () => {
    const templates = ['own: {{ messages[0].content }}', null];
    const sources = await Promise.all(
      templates.map(async (template, i) => {
        const folder = await temporaryFolder();
        if (template !== null) await writeFile(join(folder, 'chat_template.jinja'), template);
        const version = { digest: `${i}`.repeat(64), folder: async () => folder };
        return { name: `adapter${i}`, origin: 'a test', find: async () => version };
      }),
    );
    const question = [{ role: 'user', content: 'Who?' }];
    const { ask, refused, generator } = await testServer({ template: null, adapters: sources });
    await ask('/v1/chat/completions', { model: 'adapter0', messages: question });
    expect(generator.tokenizer.decode(generator.submitted[0]!.tokens, { special: true })).toBe('own: Who?');
    const { tokens } = await ask('/tokenize', { model: 'adapter0', messages: question });
    expect(tokens).toEqual(generator.submitted[0]!.tokens);
    // The base of this test has no template, and neither has the second adapter.
    for (const model of ['adapter1', 'nano'])
      expect(await refused('/v1/chat/completions', { model, messages: question })).toMatchObject({
        status: 400,
      });

    const chosen = await testServer({ template: 'chatml', adapters: sources });
    await chosen.ask('/v1/chat/completions', { model: 'adapter0', messages: question });
    const prompt = chosen.generator.tokenizer.decode(chosen.generator.submitted[0]!.tokens, {
      special: true,
    });
    expect(prompt).toBe('<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n');
  });

  it('says how to get a template when the model has none, and passes on what a template refuses', async () => {
    const none = await testServer({ template: null });
    const error = await none.refused('/v1/chat/completions', { model: 'nano', messages });
    expect(error).toMatchObject({ status: 400, message: expect.stringContaining('--template') });
    // The second request shows that the template still works after it refused a conversation.
    const plain = await testServer({ template: 'plain' });
    const odd = [{ role: 'user', content: 'x'.repeat(3) }];
    await plain.ask('/v1/chat/completions', { model: 'nano', messages: odd, max_tokens: 1 });
    expect(plain.generator.tokenizer.decode(plain.generator.submitted[0]!.tokens)).toMatch(
      /User: xxx\nAssistant:$/,
    );
  });
});
