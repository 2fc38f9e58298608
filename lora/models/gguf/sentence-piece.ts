/**
 * Byte-pair encoding as in SentencePiece. A SentencePiece model has a score for each token, and merges the pair of symbols
 * whose joined text is the token with the highest score. A tokenizer.json has a list of merges instead. Both give the
 * same tokens if the list has every pair of tokens that makes a token, in the order of the scores.
 */
import { isObject, type Json } from '../config.ts';

/** The mark that stands for a space. */
export const SPACE_MARK = '▁';

/** How a tokenizer.json marks spaces. */
export interface SpaceMarks {
  /** Where a space is added: at the start of every text between added tokens, only at the very start, or nowhere. */
  readonly prefix: 'always' | 'first' | 'never';
  /** Whether text is split before each mark, so that no token has a mark after another character. */
  readonly splits: boolean;
}

/** Reads how a tokenizer.json marks spaces; null if SentencePiece has no such way. */
export function spaceMarks({ normalizer, pre_tokenizer: pre }: Json): SpaceMarks | null {
  const steps = stepsOf(normalizer);
  if (steps.length > 0) {
    const replaces = steps.at(-1)!;
    const isReplace =
      replaces.type === 'Replace' &&
      isObject(replaces.pattern) &&
      replaces.pattern.String === ' ' &&
      replaces.content === SPACE_MARK;
    const prepends = steps.length === 2 && steps[0]!.type === 'Prepend' && steps[0]!.prepend === SPACE_MARK;
    if (!isReplace || !(steps.length === 1 || prepends) || !isWithoutEffect(pre)) return null;
    return { prefix: prepends ? 'always' : 'never', splits: false };
  }
  if (!isObject(pre) || pre.type !== 'Metaspace' || (pre.replacement ?? SPACE_MARK) !== SPACE_MARK)
    return null;
  const scheme = pre.prepend_scheme ?? (pre.add_prefix_space === false ? 'never' : 'always');
  if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never') return null;
  // A Metaspace adds no second space before a text that begins with one, whatever its scheme. SentencePiece does.
  return { prefix: scheme === 'never' ? 'never' : 'first', splits: pre.split !== false };
}

function stepsOf(normalizer: unknown): Json[] {
  if (!isObject(normalizer)) return [];
  return normalizer.type === 'Sequence' && Array.isArray(normalizer.normalizers)
    ? normalizer.normalizers.filter(isObject)
    : [normalizer];
}

/** Returns whether a pre-tokenizer does nothing after spaces have been replaced. Gemma's splits at spaces. */
function isWithoutEffect(pre: unknown): boolean {
  if (pre === null || pre === undefined) return true;
  return isObject(pre) && pre.type === 'Split' && isObject(pre.pattern) && pre.pattern.String === ' ';
}

/**
 * Returns scores with which SentencePiece makes these merges in this order; null if there are none.
 * @param tokens text of each token by id; null for tokens that merges cannot make
 * @param merges pairs in the order in which they are made
 * @param splits whether text is split before each mark
 */
export function tokenScores(
  tokens: readonly (string | null)[],
  merges: readonly (readonly [string, string])[],
  splits: boolean,
): number[] | null {
  const ranks = new Map<string, number>();
  const pairs = new Map<string, number>();
  let last = '';
  for (const [left, right] of merges) {
    const text = left + right;
    // All pairs that make a token must follow each other, because they have one score.
    if (text !== last && ranks.has(text)) return null;
    if (!ranks.has(text)) ranks.set(text, ranks.size);
    pairs.set(text, (pairs.get(text) ?? 0) + 1);
    last = text;
  }
  const known = new Set(tokens);
  for (const text of known) {
    if (text === null) continue;
    if (splits && text.slice(1).includes(SPACE_MARK)) return null;
    if (splitsOf(text, known).length !== (pairs.get(text) ?? 0)) return null;
  }
  return tokens.map((text) => 0 - (ranks.get(text ?? '') ?? 0));
}

/** Returns the pairs of known tokens that make a token, with the shortest left part first. */
function splitsOf(text: string, known: ReadonlySet<string | null>): [string, string][] {
  const found: [string, string][] = [];
  let at = 0;
  for (const character of text) {
    at += character.length;
    if (at === text.length) break;
    const pair: [string, string] = [text.slice(0, at), text.slice(at)];
    if (known.has(pair[0]) && known.has(pair[1])) found.push(pair);
  }
  return found;
}

/**
 * Returns the merges of a SentencePiece model, in the order in which transformers lists them.
 * @param tokens text and score of each token by id; null for tokens that merges cannot make
 */
export function mergesOfScores(
  tokens: readonly ({ text: string; score: number } | null)[],
): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token?.text ?? null, id]));
  const known = new Set(ids.keys());
  const byScore = tokens.filter((token) => token !== null).sort((a, b) => b.score - a.score);
  const order = ([left, right]: [string, string]): number => ids.get(left)! * tokens.length + ids.get(right)!;
  return byScore.flatMap(({ text }) => splitsOf(text, known).sort((a, b) => order(a) - order(b)));
}
