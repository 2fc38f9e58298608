import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Example, ExampleBody, Message } from '../../../../../lora/data/examples.ts';
import {
  openRenderer,
  type Renderer,
  type RendererOptions,
  renderExample,
} from '../../../../../lora/data/render/renderer.ts';
import { eachAnswer } from '../../../../../lora/data/render/turns.ts';
import { loadTokenizer, type TextTokenizer } from '../../../../../lora/data/tokenizer.ts';

const fixtures = fileURLToPath(new URL('../../../../fixtures/chat/', import.meta.url));
const dir = `${fixtures}byte-level`;
const origin = { file: 'data.jsonl', row: 7 };

let tokenizer: TextTokenizer;
let folder: string;
beforeAll(async () => {
  tokenizer = await loadTokenizer(dir);
  folder = await mkdtemp(join(tmpdir(), 'renderer-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const opened: Renderer[] = [];
afterEach(async () => {
  for (const renderer of opened.splice(0)) await renderer.close();
});
async function open(options: Partial<RendererOptions> = {}): Promise<Renderer> {
  const renderer = await openRenderer({ dir, now: 0, ...options }, { tokenizer });
  opened.push(renderer);
  return renderer;
}

/** Returns the rendered text and its trained part. */
async function shown(body: ExampleBody, renderer: Renderer): Promise<{ text: string; trained: string }> {
  const { ids, trained } = await renderExample({ origin, ...body } as Example, renderer);
  return {
    text: tokenizer.decode(ids, { special: true }),
    trained: tokenizer.decode(
      ids.filter((_, i) => trained[i]),
      { special: true },
    ),
  };
}

const talk: Message[] = [
  { role: 'user', content: 'One' },
  { role: 'assistant', content: 'Two' },
  { role: 'user', content: 'Three' },
  { role: 'assistant', content: 'Four' },
];

describe('which tokens are trained', () => {
  const cases = {
    assistant: 'Two<|im_end|>\nFour<|im_end|>\n',
    completion: 'Four<|im_end|>\n',
    last: 'Four<|im_end|>\n',
  };
  for (const trainOn of ['assistant', 'completion', 'last'] as const) {
    it(`in a conversation with trainOn ${trainOn}`, async () => {
      const renderer = await open({ template: 'chatml', trainOn });
      expect((await shown({ kind: 'messages', messages: talk }, renderer)).trained).toBe(cases[trainOn]);
    });
  }

  it('in a conversation: everything with trainOn all, the assistant turns by default', async () => {
    const all = await shown(
      { kind: 'messages', messages: talk },
      await open({ template: 'chatml', trainOn: 'all' }),
    );
    expect(all.trained).toBe(all.text);
    const usual = await shown({ kind: 'messages', messages: talk }, await open({ template: 'chatml' }));
    expect(usual).toEqual({ text: all.text, trained: cases.assistant });
  });

  it('in a conversation: no turns with weight 0', async () => {
    const messages = [talk[0]!, { ...talk[1]!, weight: 0 }, ...talk.slice(2)];
    const { trained } = await shown({ kind: 'messages', messages }, await open({ template: 'chatml' }));
    expect(trained).toBe(cases.last);
  });

  it('in a prompt and completion of messages: everything after the prompt', async () => {
    const [prompt, completion] = [talk.slice(0, 1), talk.slice(1)];
    const body = { kind: 'completion', prompt, completion } as const;
    const follows =
      'Two<|im_end|>\n<|im_start|>user\nThree<|im_end|>\n<|im_start|>assistant\nFour<|im_end|>\n';
    expect((await shown(body, await open({ template: 'chatml' }))).trained).toBe(follows);
    const turns = await shown(body, await open({ template: 'chatml', trainOn: 'assistant' }));
    expect(turns.trained).toBe(cases.assistant);
    const mixed = { kind: 'completion', prompt: 'One', completion: talk.slice(1, 2) } as const;
    expect((await shown(mixed, await open({ template: 'chatml' }))).trained).toBe('Two<|im_end|>\n');
  });

  it('in segments and tokens: those that their masks mark', async () => {
    const segments = [
      { text: '<s>Say ', trained: false },
      { text: 'yes</s>', trained: true },
      { text: ' no', trained: false },
    ];
    const renderer = await open({ trainOn: 'all' });
    expect(await shown({ kind: 'segments', segments }, renderer)).toEqual({
      text: '<s>Say yes</s> no',
      trained: 'yes</s>',
    });
    const tokens = await renderExample(
      { kind: 'tokens', origin, ids: [0, 5, 6], labels: [-100, 5, -100] },
      renderer,
    );
    expect(tokens).toMatchObject({ ids: [0, 5, 6], trained: Uint8Array.of(0, 1, 0) });
  });
});

describe('special tokens', () => {
  it('end texts and completions exactly once', async () => {
    const renderer = await open();
    expect((await shown({ kind: 'text', text: 'Hello' }, renderer)).text).toBe('<s>Hello</s>');
    expect((await shown({ kind: 'text', text: 'Hello</s>' }, renderer)).text).toBe('<s>Hello</s>');
    const pair = { kind: 'completion', prompt: 'Say:', completion: ' yes' } as const;
    expect(await shown(pair, renderer)).toEqual({ text: '<s>Say: yes</s>', trained: ' yes</s>' });
  });

  it('start a text once, whether text, template or tokenizer writes them', async () => {
    const renderer = await open({ template: `${fixtures}templates/llama3.jinja` });
    expect((await shown({ kind: 'text', text: '<s>Hello' }, renderer)).text).toBe('<s>Hello</s>');
    const { ids } = await renderExample({ kind: 'messages', origin, messages: talk }, renderer);
    expect(ids.filter((id) => id === tokenizer.bosId)).toHaveLength(1);
  });
});

describe('instructions', () => {
  const instruction = {
    kind: 'instruction',
    instruction: 'Add.',
    input: '1 and 2',
    output: '3',
    system: null,
    history: [] as [string, string][],
  } as const;

  it('become the text of Alpaca without a template', async () => {
    const { text, trained } = await shown(instruction, await open());
    expect(text).toContain('paired with an input');
    expect(text).toMatch(/### Instruction:\nAdd\.\n\n### Input:\n1 and 2\n\n### Response:\n3<\/s>$/);
    expect(trained).toBe('3</s>');
    const plain = await shown(
      { ...instruction, input: '', system: 'Be brief.', history: [['a', 'b']] },
      await open(),
    );
    expect(plain.text).toBe(
      '<s>Be brief.\n\n### Instruction:\na\n\n### Response:\nb\n\n### Instruction:\nAdd.\n\n### Response:\n3</s>',
    );
  });

  it('become a conversation whose last answer is trained with a template', async () => {
    const renderer = await open({ template: 'plain' });
    const body = { ...instruction, system: 'Be brief.', history: [['a', 'b']] as [string, string][] };
    expect(await shown(body, renderer)).toEqual({
      text: '<s>System: Be brief.\nUser: a\nAssistant: b</s>\nUser: Add.\n1 and 2\nAssistant: 3</s>\n',
      trained: ' 3</s>\n',
    });
  });
});

describe('chat templates', () => {
  it('come from the model folder, a template file before the config', async () => {
    const config = (chat_template: unknown) =>
      writeFile(
        join(folder, 'tokenizer_config.json'),
        JSON.stringify({ bos_token: { content: '<s>' }, chat_template }),
      );
    const text = async (tools?: unknown[]) => {
      const renderer = await open({ dir: folder });
      return (await shown({ kind: 'messages', messages: talk, tools }, renderer)).text;
    };
    await config('{{ bos_token }}one');
    expect(await text()).toBe('<s>one');
    await config([
      { name: 'tool_use', template: 'tools {{ tools | length }}' },
      { name: 'default', template: 'two' },
    ]);
    expect(await text()).toBe('two');
    expect(await text([{}, {}])).toBe('tools 2');
    await writeFile(join(folder, 'chat_template.jinja'), 'three');
    expect(await text()).toBe('three');
    expect(await text([{}])).toBe('three');
    await mkdir(join(folder, 'additional_chat_templates'));
    await writeFile(join(folder, 'additional_chat_templates', 'tool_use.jinja'), 'four');
    expect([await text(), await text([{}])]).toEqual(['three', 'four']);
  });

  it('that are built in write their format and refuse tools', async () => {
    const written = {
      chatml: '<|im_start|>user\nOne<|im_end|>\n<|im_start|>assistant\nTwo<|im_end|>\n',
      plain: '<s>User: One\nAssistant: Two</s>\n',
    };
    const calls = [talk[0]!, { role: 'assistant', content: '', tool_calls: [{ function: { name: 'f' } }] }];
    for (const [template, text] of Object.entries(written)) {
      const renderer = await open({ template });
      expect((await shown({ kind: 'messages', messages: talk.slice(0, 2) }, renderer)).text).toBe(text);
      for (const body of [{ messages: calls }, { messages: talk, tools: [{}] }]) {
        await expect(renderExample({ kind: 'messages', origin, ...body }, renderer)).rejects.toMatchObject({
          code: 'ROW_TEMPLATE',
        });
      }
    }
  });

  it('receive further variables', async () => {
    const file = join(folder, 'thinking.jinja');
    await writeFile(file, "{{ 'on' if enable_thinking else 'off' }}");
    const off = await open({ template: file, variables: { enable_thinking: false } });
    expect((await shown({ kind: 'messages', messages: talk }, off)).text).toBe('off');
  });

  it('that are missing or unreadable are refused with their own codes', async () => {
    const messages = { kind: 'messages', origin, messages: talk } as const;
    await expect(renderExample(messages, await open())).rejects.toMatchObject({
      code: 'TEMPLATE_MISSING',
      values: origin,
    });
    await expect(open({ template: 'llama-9' })).rejects.toMatchObject({ code: 'TEMPLATE_UNREADABLE' });
  });

  it('that rewrite earlier turns are refused with the place, but can train the last answer', async () => {
    const template = `${fixtures}templates/forgetful.jinja`;
    const messages = [
      { role: 'user', content: 'One' },
      { role: 'assistant', content: 'Hm</think>Two' },
      { role: 'user', content: 'Three' },
      { role: 'assistant', content: 'So</think>Four' },
    ];
    await expect(
      renderExample({ kind: 'messages', origin, messages }, await open({ template })),
    ).rejects.toMatchObject({
      code: 'DATA_TEMPLATE',
      values: { file: 'data.jsonl', row: 7, turn: 2, before: expect.stringContaining('Hm</think>Two') },
    });
    const last = await shown({ kind: 'messages', messages }, await open({ template, trainOn: 'last' }));
    expect(last.trained).toBe('So</think>Four<|im_end|>\n');
  });
});

describe('a sample for each answer', () => {
  const samples = (body: ExampleBody) => [...eachAnswer({ origin, ...body } as Example)];

  it('ends with that answer, also if the template rewrites earlier turns', async () => {
    const renderer = await open({ template: `${fixtures}templates/forgetful.jinja`, trainOn: 'turns' });
    const thinking = talk.map((turn) =>
      turn.role === 'user' ? turn : { ...turn, content: `Hm</think>${turn.content}` },
    );
    const found = [];
    for (const sample of samples({ kind: 'messages', messages: thinking }))
      found.push(await shown(sample, renderer));
    expect(found.map(({ trained }) => trained)).toEqual([
      'Hm</think>Two<|im_end|>\n',
      'Hm</think>Four<|im_end|>\n',
    ]);
    expect(found[1]!.text).toContain('assistant\nTwo<|im_end|>');
  });

  it('skips turns with weight 0, keeps the prompt of a completion, and keeps examples without answers', () => {
    const [one, two, three, four] = talk as [Message, Message, Message, Message];
    const messages = [one, { ...two, weight: 0 }, three, four, one];
    expect(samples({ kind: 'messages', messages })).toMatchObject([{ messages: messages.slice(0, 4) }]);
    const completion = [two, three, four];
    expect(samples({ kind: 'completion', prompt: [one], completion })).toMatchObject([
      { prompt: [one], completion: [two] },
      { prompt: [one], completion },
    ]);
    const whole: ExampleBody[] = [
      { kind: 'messages', messages: [one] },
      { kind: 'completion', prompt: 'a', completion: 'b' },
      { kind: 'text', text: 'a' },
    ];
    for (const body of whole) expect(samples(body)).toEqual([{ origin, ...body }]);
  });
});

describe('rows that cannot be rendered', () => {
  it('include conversations of too many messages if every answer is trained', async () => {
    const messages = Array.from({ length: 600 }, () => talk.slice(0, 2)).flat();
    const render = async (options: Partial<RendererOptions>) =>
      renderExample({ kind: 'messages', origin, messages }, await open({ template: 'chatml', ...options }));
    await expect(render({})).rejects.toMatchObject({ code: 'ROW_TURNS' });
    expect((await render({ trainOn: 'last' })).trained.indexOf(1)).toBeGreaterThan(0);
  });

  it('include invalid token rows', async () => {
    const renderer = await open();
    const bad: ExampleBody[] = [
      { kind: 'tokens', ids: [1, 2], labels: [1] },
      { kind: 'tokens', ids: [1, 2], labels: [1, 3] },
      { kind: 'tokens', ids: [1, 1_000_000], labels: [1, -100] },
      { kind: 'tokens', ids: [1, 1.5], labels: [1, -100] },
    ];
    for (const body of bad) {
      await expect(renderExample({ origin, ...body } as Example, renderer)).rejects.toMatchObject({
        code: 'ROW_TOKENS',
      });
    }
  });
});
