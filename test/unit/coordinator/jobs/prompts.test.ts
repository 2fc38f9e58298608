import { expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { beginning, jobSamples, readPrompts } from '../../../../coordinator/jobs/prompts.ts';
import { IGNORED_LABEL, type Row } from '../../../../lora/data/row.ts';
import { encodeShards } from '../../../../lora/data/shards/shard-codec.ts';
import type { TextTokenizer } from '../../../../lora/data/tokenizer.ts';
import { type JobSpecInput, parseJobSpec } from '../../../../lora/finetune/settings/job-spec.ts';
import { encodeCbor } from '../../../../protocol/cbor.ts';

/** A tokenizer with one token per character, after a beginning-of-text token. */
const characters: TextTokenizer = {
  vocabSize: 256,
  bosId: 1,
  eosId: 0,
  prefix: [1],
  suffix: [],
  encode: (text) => [...text].map((character) => character.charCodeAt(0)),
  decode: (ids) => String.fromCharCode(...ids),
};
const deps = { clock: systemClock };

function specOf(samples: JobSpecInput['samples'], admission: 'open' | 'invite' = 'open') {
  return parseJobSpec({ name: 'x', base: '/base', data: { train: '/x' }, samples, admission });
}

/** A row of two segments. The first `ignored` tokens are not supervised. */
function row(text: string, ignored = 0, end = text.length): Row {
  const ids = Uint32Array.from(characters.encode(text));
  const labels = Int32Array.from(ids, (_, i) =>
    i + 1 < ignored || i + 1 >= end ? IGNORED_LABEL : ids[i + 1]!,
  );
  return { ids, labels, segments: Uint16Array.from(ids, (_, i) => (i < end ? 1 : 2)) };
}

async function samplesOf(spec: ReturnType<typeof specOf>, rows: readonly Row[]) {
  const heldOut = encodeCbor([...encodeShards(rows)]);
  return jobSamples(spec, await readPrompts(spec, characters, deps), heldOut, characters);
}

test('the prompts of the operator get the special tokens of the tokenizer', async () => {
  const prompts = await readPrompts(specOf({ prompts: ['ab'] }), characters, deps);
  expect(prompts).toEqual([{ text: 'ab', tokens: [1, 97, 98], isHeldOut: false }]);
  expect(await readPrompts(specOf(null), characters, deps)).toEqual([]);
});

test('a prompt may have at most 512 tokens', async () => {
  const prompts = ['a', 'b'.repeat(512)];
  await expect(readPrompts(specOf({ prompts }), characters, deps)).rejects.toMatchObject({
    code: 'SAMPLES_PROMPT',
    values: { prompt: 1, tokens: 513, limit: 512 },
  });
});

test('held-out rows are prompts by default only in an open job without other prompts', async () => {
  const rows = Array.from({ length: 9 }, (_, i) => row(String.fromCharCode(97 + i).repeat(80)));
  const texts = async (spec: ReturnType<typeof specOf>) =>
    (await samplesOf(spec, rows))?.prompts.map(({ text }) => text[0]);
  expect(await texts(specOf({}))).toEqual(['a', 'd', 'g']);
  expect(await texts(specOf({ prompts: ['z'] }))).toEqual(['z']);
  expect(await texts(specOf({ prompts: ['z'], heldOut: 1 }, 'invite'))).toEqual(['z', 'a']);
  await expect(readPrompts(specOf({}, 'invite'), characters, deps)).rejects.toMatchObject({
    code: 'SAMPLES_PROMPT',
  });
  expect(await samplesOf(specOf(null), rows)).toBeNull();
});

test('the prompt of a row is what is not supervised, or else a short beginning of the first segment', () => {
  expect(beginning(row('question?answer', 9), characters).text).toBe('question?');
  expect(beginning(row('a'.repeat(80)), characters).tokens).toHaveLength(24);
  expect(beginning(row('abcdefgh', 0, 6), characters).text).toBe('abc');
  expect(beginning(row('a'.repeat(900), 800), characters).tokens).toHaveLength(512);
});
