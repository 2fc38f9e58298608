import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { addedTokens, loadTokenizer } from '../../../../../lora/data/tokenizer.ts';
import type { GgufValue } from '../../../../../lora/models/gguf/cursor.ts';
import { Metadata } from '../../../../../lora/models/gguf/metadata.ts';
import { tokenizerOf } from '../../../../../lora/models/gguf/metadata-tokenizer.ts';
import { mergesOfScores, tokenScores } from '../../../../../lora/models/gguf/sentence-piece.ts';
import { tokenizerMetadata } from '../../../../../lora/models/gguf/tokenizer-metadata.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';
import { withCode } from '../../../../utils/source/codes.ts';

type Json = Record<string, unknown>;

interface Fixture {
  tokenizer: Json & { model: { vocab: Record<string, number>; merges: string[][]; byte_fallback: boolean } };
  config: Json & Record<string, string>;
}

function read<T>(name: string): T {
  return JSON.parse(
    gunzipSync(readFileSync(join(FIXTURES, 'tokenizers', `${name}.json.gz`))).toString(),
  ) as T;
}

/** Text without the cases in which llama.cpp is known to give other tokens. */
const TEXT = "It's 1234 o'clock,  we'LL see:\n\n\tça va? 日本語 🙂 ÀÉ x_y\r\n  end   ";

async function load(definition: Json, config: Json) {
  const dir = await temporaryFolder();
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(definition));
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(config));
  return loadTokenizer(dir);
}

/**
 * Returns the metadata of a tokenizer.
 * @param rows rows of the embedding. @default as many as there are ids
 */
async function written(
  { tokenizer, config }: Fixture,
  rows?: number,
  templates: Record<string, string> = {},
  endTokens: readonly number[] = [],
) {
  const { prefix, suffix, vocabSize } = await load(tokenizer, config);
  const notes: string[] = [];
  const added = addedTokens(tokenizer, config);
  const metadata = tokenizerMetadata(
    {
      definition: tokenizer,
      added,
      specialTokens: config,
      prefix,
      suffix,
      endTokens,
      rows: rows ?? vocabSize,
      templates,
    },
    (note) => notes.push(note),
  );
  const values = new Map<string, GgufValue>(
    [...metadata].map(([key, { value }]) => [key, value as GgufValue]),
  );
  return { values, notes };
}

const imported = (values: ReadonlyMap<string, GgufValue>) => tokenizerOf(new Metadata(values, 'x.gguf'));

/** Gives a tokenizer with byte fallback all merges that SentencePiece would make. */
function complete(fixture: Fixture): Fixture {
  const { model } = fixture.tokenizer;
  const ranks = new Map(model.merges.map((pair, rank) => [pair.join(''), rank]));
  const tokens: ({ text: string; score: number } | null)[] = [];
  for (const [text, id] of Object.entries(model.vocab)) {
    const isSpecial = /^<(0x..|unk|s|\/s)>$/.test(text);
    tokens[id] = isSpecial ? null : { text, score: -(ranks.get(text) ?? 0) };
  }
  model.merges = mergesOfScores(
    Array.from(tokens, (token) => token ?? null),
    (what) => new Error(what),
  );
  return fixture;
}

describe('a tokenizer is the same after export and import', () => {
  test.each([
    ['gpt2', 'gpt-2'],
    ['smollm', 'smollm'],
    ['llama3', 'llama-bpe'],
    ['qwen', 'qwen2'],
  ])('%s', async (name, pre) => {
    const fixture = read<Fixture>(name);
    const { values } = await written(fixture);
    expect(values.get('tokenizer.ggml.model')).toBe('gpt2');
    expect(values.get('tokenizer.ggml.pre')).toBe(pre);
    const { definition, config } = imported(values);
    const [before, after] = [await load(fixture.tokenizer, fixture.config), await load(definition, config)];
    expect(after.encode(TEXT)).toEqual(before.encode(TEXT));
    expect(after.decode(after.encode(TEXT))).toBe(before.decode(before.encode(TEXT)));
    const { bosId, eosId, prefix, suffix } = before;
    expect(after).toMatchObject({ bosId, eosId, prefix, suffix });
  });

  test.each(['llama2', 'gemma'])('%s', async (name) => {
    const fixture = complete(read<Fixture>(name));
    const { values } = await written(fixture);
    expect(values.get('tokenizer.ggml.model')).toBe('llama');
    expect(values.get('tokenizer.ggml.add_space_prefix')).toBe(name === 'llama2');
    const { definition, config } = imported(values);
    const [before, after] = [await load(fixture.tokenizer, fixture.config), await load(definition, config)];
    expect(after.encode(TEXT)).toEqual(before.encode(TEXT));
    expect(after.decode(after.encode(TEXT))).toBe(before.decode(before.encode(TEXT)));
    expect(after).toMatchObject({ bosId: before.bosId, eosId: before.eosId, prefix: before.prefix });
  });

  test('with its chat templates', async () => {
    const { values } = await written(read('gpt2'), undefined, { default: '{{ a }}', tool_use: '{{ b }}' });
    expect(values.get('tokenizer.chat_template')).toBe('{{ a }}');
    expect(imported(values).templates).toEqual({ default: '{{ a }}', tool_use: '{{ b }}' });
  });

  test('with the token that ends a turn', async () => {
    const { values } = await written(read('llama3'), undefined, {}, [1, 7, 8]);
    expect(values.get('tokenizer.ggml.eot_token_id')).toBe(7);
    expect(imported(values).endTokens).toEqual([1, 7]);
    expect(imported((await written(read('llama3'), undefined, {}, [1])).values).endTokens).toEqual([1]);
  });

  test('and rows without a token get names, which the import leaves out', async () => {
    const fixture = read<Fixture>('gpt2');
    const { values } = await written(fixture, 710);
    const tokens = values.get('tokenizer.ggml.tokens') as string[];
    expect([tokens.length, tokens[709]]).toEqual([710, '[PAD709]']);
    const { vocabSize } = await load(imported(values).definition, {});
    expect(vocabSize).toBe(700);
  });
});

describe('an export is refused for', () => {
  const cases: [string, (fixture: Fixture) => Fixture, string][] = [
    ['unknown words', (fixture) => fixture, 'behaviors'],
    ['a space before every text', (fixture) => fixture, 'gpt2-prefixed-flags'],
    ['merges that SentencePiece would not make', (fixture) => fixture, 'llama2'],
    ['no end-of-text token', ({ tokenizer }) => ({ tokenizer, config: {} }), 'gpt2'],
    ['ignore_merges with the words of GPT-2', changed({ model: { ignore_merges: true } }), 'gpt2'],
    ['a normalizer over bytes', changed({ normalizer: { type: 'NFKC' } }), 'gpt2'],
    [
      'two tokens before every text',
      changed({ post_processor: { type: 'BertProcessing', cls: ['a', 5], sep: ['b', 6] } }),
      'gpt2',
    ],
  ];
  function changed(changes: Json) {
    return ({ tokenizer, config }: Fixture): Fixture => {
      const model = { ...tokenizer.model, ...(changes.model as object) };
      return { tokenizer: { ...tokenizer, ...changes, model }, config };
    };
  }
  test.each(cases)('%s', async (_, change, name) => {
    await expect(written(change(read(name)))).rejects.toMatchObject({ code: 'GGUF_UNSUPPORTED' });
  });

  test('more tokens of the vocabulary than the embedding has rows', async () => {
    await expect(written(read('gpt2'), 699)).rejects.toMatchObject({ code: 'GGUF_UNSUPPORTED' });
  });
});

test('added tokens beyond the rows of the embedding are left out with a note', async () => {
  const { values, notes } = await written(read('llama3'), 700);
  expect(notes).toEqual([]);
  const fixture = read<Fixture>('llama3');
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  fixture.tokenizer.added_tokens = [
    ...(fixture.tokenizer.added_tokens as object[]),
    { id: 700, content: '<image>', ...flags },
  ];
  const more = await written(fixture, 700);
  expect(more.notes.join()).toContain('<image>');
  expect(more.values).toEqual(values);
});

test('notes name the cases in which llama.cpp gives other tokens', async () => {
  expect((await written(read('gpt2'))).notes).toEqual([]);
  expect((await written(read('qwen'))).notes.join()).toMatch(/NFC.*lstrip/);
  const { tokenizer, config } = complete(read<Fixture>('mistral'));
  expect((await written({ tokenizer, config })).notes.join()).toContain('space');
});

describe('an import is refused for', () => {
  const cases: [string, string, GgufValue | undefined, string][] = [
    ['no pre-tokenizer', 'tokenizer.ggml.pre', undefined, 'GGUF_UNSUPPORTED'],
    ['an unknown pre-tokenizer', 'tokenizer.ggml.pre', 'bloom', 'GGUF_UNSUPPORTED'],
    ['a model of pieces of words', 'tokenizer.ggml.model', 'bert', 'GGUF_UNSUPPORTED'],
    ['no tokens', 'tokenizer.ggml.tokens', undefined, 'GGUF_METADATA'],
    ['tokens that are numbers', 'tokenizer.ggml.tokens', [1, 2], 'GGUF_METADATA'],
    ['a token twice', 'tokenizer.ggml.tokens', ['a', 'a'], 'GGUF_METADATA'],
    ['no merges', 'tokenizer.ggml.merges', undefined, 'GGUF_METADATA'],
    ['a merge of unknown tokens', 'tokenizer.ggml.merges', ['no token'], 'GGUF_UNSUPPORTED'],
    ['a merge without a space', 'tokenizer.ggml.merges', ['x'], 'GGUF_UNSUPPORTED'],
    ['too few types', 'tokenizer.ggml.token_type', [1], 'GGUF_METADATA'],
    ['a beginning-of-text token without an id', 'tokenizer.ggml.bos_token_id', 10 ** 6, 'GGUF_METADATA'],
    ['a chat template of a megabyte', 'tokenizer.chat_template', 'x'.repeat(2 ** 21), 'GGUF_METADATA'],
  ];
  test.each(cases)('%s', async (_, key, value, code) => {
    const { values } = await written(read('llama3'));
    if (value === undefined) values.delete(key);
    else values.set(key, value);
    expect(() => imported(values)).toThrow(withCode(code));
  });

  test('a token twice, by name', async () => {
    const { values } = await written(read('gpt2'));
    const tokens = [...(values.get('tokenizer.ggml.tokens') as string[])];
    tokens[20] = tokens[10]!;
    values.set('tokenizer.ggml.tokens', tokens);
    expect(() => imported(values)).toThrow(withCode('GGUF_UNSUPPORTED'));
  });
});

describe('scores of SentencePiece', () => {
  const tokens = ['a', 'b', 'ab', 'aab', null, 'aa'];
  const merges: [string, string][] = [
    ['a', 'b'],
    ['a', 'a'],
    ['aa', 'b'],
    ['a', 'ab'],
  ];
  const plain = { splits: false, added: new Set<string>() };

  test('give merges with every pair, in the order of transformers', () => {
    const scores = [0, 0, -1, -3, 0, -2];
    const scored = tokens.map((text, i) => (text === null ? null : { text, score: scores[i]! }));
    expect(mergesOfScores(scored, (what) => new Error(what))).toEqual(merges);
  });

  test('come from merges with every pair, and only from those', () => {
    const [first, second, third, fourth] = merges as [string, string][] & { length: 4 };
    expect(tokenScores(tokens, merges, plain)).toEqual([0, 0, 0, -2, 0, -1]);
    expect(tokenScores(tokens, merges.slice(0, 3), plain)).toBeNull();
    expect(tokenScores(tokens, [first!, third!, second!, fourth!], plain)).toBeNull();
  });

  test('are equal for mixed pairs of added tokens, and of runs of one character', () => {
    const [ab, aa, aab, other] = merges as [string, string][] & { length: 4 };
    const mixed = [ab!, aab!, aa!, other!];
    expect(tokenScores(tokens, mixed, { splits: false, added: new Set(['aab', 'aa']) })).toEqual([
      0, 0, 0, -1, 0, -1,
    ]);
    const runs = ['a', 'aa', 'aaa', 'aaaa'];
    const longest: [string, string][] = [
      ['aaa', 'a'],
      ['aa', 'aa'],
      ['aa', 'a'],
      ['a', 'aaa'],
      ['a', 'aa'],
      ['a', 'a'],
    ];
    // The pair that comes after all others gets a lower score.
    expect(tokenScores(runs, longest, plain)).toEqual([0, -1, 0, 0]);
  });

  test('do not exist for a token with a mark inside, if text is split at marks', () => {
    const marked = ['a', '▁', 'a▁'];
    expect(tokenScores(marked, [['a', '▁']], plain)).not.toBeNull();
    expect(tokenScores(marked, [['a', '▁']], { ...plain, splits: true })).toBeNull();
  });
});
