import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { loadTokenizer, type TextTokenizer } from '../../../../lora/data/tokenizer.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** Values computed by transformers, see scripts/reference/make_tokenizers.py. */
interface Reference {
  tokenizer?: Record<string, unknown>;
  config?: Record<string, unknown>;
  whole: [ids: number[], decoded: string][];
  ids: string;
  decoded: string;
}

const FIXTURES = join(import.meta.dirname, '../../../fixtures/tokenizers');
const NANO = join(import.meta.dirname, '../../../../models/nano');
const WHOLE = 60;

function read<T>(name: string): T {
  return JSON.parse(gunzipSync(readFileSync(join(FIXTURES, `${name}.json.gz`))).toString()) as T;
}

const texts = read<string[]>('strings');
const names = readdirSync(FIXTURES)
  .map((file) => file.replace('.json.gz', ''))
  .filter((name) => name !== 'strings');

async function load(
  { tokenizer, config }: Pick<Reference, 'tokenizer' | 'config'>,
  changes: Record<string, unknown> = {},
  options: { deadlineMs?: number } = {},
): Promise<TextTokenizer> {
  if (tokenizer === undefined) return loadTokenizer(NANO);
  const dir = await temporaryFolder();
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify({ ...tokenizer, ...changes }));
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(config));
  return loadTokenizer(dir, options);
}

const short = (text: string): string =>
  createHash('sha256').update(text).digest().subarray(0, 4).toString('hex');
const digest = (packed: string, i: number): string =>
  Buffer.from(packed, 'base64')
    .subarray(4 * i, 4 * i + 4)
    .toString('hex');
const bothWays = (tokenizer: TextTokenizer, ids: readonly number[]): string =>
  `${tokenizer.decode(ids, { special: true })}\0${tokenizer.decode(ids)}`;

describe('parity with transformers on hard strings', () => {
  it('has 2,000 strings and at least 12 kinds of tokenizer', () => {
    expect(texts).toHaveLength(2000);
    expect(new Set(texts).size).toBe(2000);
    expect(names.length).toBeGreaterThanOrEqual(12);
  });

  it.each(names)('%s', async (name) => {
    const reference = read<Reference>(name);
    const tokenizer = await load(reference);
    const every = Math.floor(texts.length / WHOLE);
    reference.whole.forEach(([ids, decoded], i) => {
      const text = texts[i * every]!;
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
      expect(bothWays(tokenizer, ids), JSON.stringify(text)).toBe(decoded);
    });
    const all = texts.map((text) => tokenizer.encode(text));
    const wrong = texts.filter((_, i) => short(all[i]!.join(',')) !== digest(reference.ids, i));
    expect(wrong).toEqual([]);
    const decodedWrong = texts.filter(
      (_, i) => short(bothWays(tokenizer, all[i]!)) !== digest(reference.decoded, i),
    );
    expect(decodedWrong).toEqual([]);
  });
});

it('encodes a lone surrogate as U+FFFD', async () => {
  const tokenizer = await load(read('qwen'));
  expect(tokenizer.encode('a\ud83db')).toEqual(tokenizer.encode('a\ufffdb'));
});

it('encodes a megabyte without spaces in less than quadratic time', async () => {
  for (const name of ['qwen', 'llama2']) {
    const tokenizer = await load(read(name));
    const ids = tokenizer.encode('abcdefghi1'.repeat(100_000), { special: false });
    // A quadratic encoder would need minutes and exceed the timeout of this test.
    expect(tokenizer.decode(ids).trim()).toHaveLength(1_000_000);
  }
}, 120_000);

describe('a regular expression that takes years', () => {
  /** Long enough for everything else that has this deadline, such as loading a tokenizer, on a busy machine. */
  const deadlineMs = 1000;
  const hostile = { Regex: '(a|a)+b' };
  const replace = { type: 'Replace', pattern: hostile, content: '' };
  const text = 'a'.repeat(64);

  it.each([
    ['normalizer', { normalizer: replace }],
    ['pre-tokenizer', { pre_tokenizer: { type: 'Split', pattern: hostile, behavior: 'Isolated' } }],
  ])('in the %s is stopped, and the next text is still tokenised', async (_, change) => {
    const tokenizer = await load(read('qwen'), change, { deadlineMs });
    expect(() => tokenizer.encode(text)).toThrow(withCode('TOKENIZER_LIMIT'));
    expect(tokenizer.encode('xyz')).toEqual((await load(read('qwen'))).encode('xyz'));
  });

  it('in the decoder is stopped', async () => {
    const decoder = { type: 'Sequence', decoders: [{ type: 'Fuse' }, replace] };
    const tokenizer = await load(read('qwen'), { decoder }, { deadlineMs });
    const [a] = tokenizer.encode('a', { special: false });
    expect(() => tokenizer.decode(new Array<number>(64).fill(a!))).toThrow(withCode('TOKENIZER_LIMIT'));
  });

  it('is stopped while the tokenizer is loaded', async () => {
    const added_tokens = [{ id: 0, content: text, normalized: true }];
    await expect(
      load(read('qwen'), { normalizer: replace, added_tokens }, { deadlineMs }),
    ).rejects.toMatchObject({ code: 'TOKENIZER_LIMIT' });
  });
});

describe('a tokenizer with unsupported parts is refused, naming the part', () => {
  const split = (Regex: string) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  });
  const cases: [string, Record<string, unknown>, string][] = [
    ['a lower-casing normalizer', { normalizer: { type: 'Lowercase' } }, 'normalizer'],
    ['an unknown pre-tokenizer', { pre_tokenizer: { type: 'UnicodeScripts' } }, 'pre_tokenizer'],
    [
      'an unknown behaviour',
      { pre_tokenizer: { ...split('a'), behavior: 'Shuffled' } },
      'pre_tokenizer.behavior',
    ],
    ['an unknown decoder', { decoder: { type: 'CTC' } }, 'decoder'],
    ['an unknown post-processor', { post_processor: { type: 'Other' } }, 'post_processor'],
    ...[String.raw`\Ga`, '(?>a|ab)c', 'a++b', String.raw`(a)\1`, '(?i:ß)', '(?m)a', '(', 'a|[[=e=]]'].map(
      (regex): [string, Record<string, unknown>, string] => [
        `the expression ${regex}`,
        { pre_tokenizer: split(regex) },
        'pre_tokenizer.pattern',
      ],
    ),
  ];

  it.each(cases)('%s', async (_, change, part) => {
    await expect(load(read('qwen'), change)).rejects.toMatchObject({
      code: 'TOKENIZER_UNSUPPORTED',
      values: { part },
    });
  });

  it.each([
    ['Unigram', { type: 'Unigram', vocab: [['a', 0]] }],
    ['WordPiece', { type: 'WordPiece', vocab: { a: 0 } }],
    ['dropout', { type: 'BPE', vocab: { a: 0 }, merges: [], dropout: 0.1 }],
    ['a suffix', { type: 'BPE', vocab: { a: 0 }, merges: [], end_of_word_suffix: '</w>' }],
  ])('a model with %s', async (_, model) => {
    await expect(load(read('qwen'), { model })).rejects.toMatchObject({ code: 'TOKENIZER_UNSUPPORTED' });
  });

  it.each([
    ['merges of tokens that are not in the vocabulary', { vocab: { a: 0, b: 1 }, merges: ['a b'] }],
    ['a merge of three tokens', { vocab: { a: 0, aaa: 1 }, merges: ['a a a'] }],
    ['an id that is not an integer', { vocab: { a: 0.5 }, merges: [] }],
    ['an unknown token that is not in the vocabulary', { vocab: { a: 0 }, merges: [], unk_token: '?' }],
  ])('a file with %s is damaged', async (_, model) => {
    const change = { model: { type: 'BPE', ...model } };
    await expect(load(read('qwen'), change)).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
  });
});
