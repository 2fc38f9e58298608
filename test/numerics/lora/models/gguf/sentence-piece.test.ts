import { expect, test } from 'vitest';
import { Metadata } from '../../../../../lora/models/gguf/metadata.ts';
import {
  MAX_MERGED_LENGTH,
  MAX_MERGES,
  mergesOfScores,
} from '../../../../../lora/models/gguf/sentence-piece.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const metadata = new Metadata(new Map(), 'x.gguf');
const merges = (texts: readonly string[]) =>
  mergesOfScores(
    texts.map((text) => ({ text, score: 0 })),
    (what) => metadata.unsupported(what),
  );

/** Runs of characters up to a length. Each has one merge for each place between its characters. */
function runs(count: number, length: number): string[] {
  const characters = Array.from({ length: count }, (_, i) => String.fromCodePoint(0x4e00 + i));
  return characters.flatMap((character) => Array.from({ length }, (_, i) => character.repeat(i + 1)));
}

test('a token that is longer than in any vocabulary is refused', () => {
  expect(merges(['a', 'b'.repeat(MAX_MERGED_LENGTH)])).toEqual([]);
  expect(() => merges(['a', 'b'.repeat(MAX_MERGED_LENGTH + 1)])).toThrow(withCode('GGUF_UNSUPPORTED'));
});

test('a small vocabulary with millions of merges is refused', () => {
  const [length, each] = [16, (16 * 15) / 2];
  expect(() => merges(runs(Math.ceil(MAX_MERGES / each) + 1, length))).toThrow(withCode('GGUF_UNSUPPORTED'));
});

test('a small vocabulary with merges of many characters is refused', () => {
  expect(merges(runs(2, MAX_MERGED_LENGTH))).toHaveLength(MAX_MERGED_LENGTH * (MAX_MERGED_LENGTH - 1));
  expect(() => merges(runs(32, MAX_MERGED_LENGTH))).toThrow(withCode('GGUF_UNSUPPORTED'));
});
