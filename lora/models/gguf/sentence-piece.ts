/**
 * Byte-pair encoding as in SentencePiece. A SentencePiece model has a score for each token, and merges the pair of
 * symbols whose joined text is the token with the highest score. A tokenizer.json has a list of merges instead. Both
 * give the same tokens if the list contains, in the order of the scores, every pair of tokens whose joined text is a
 * token.
 */
import { isObject, type Json } from '../config.ts';
import { MAX_JSON_BYTES } from '../json.ts';

/** The mark that stands for a space. */
export const SPACE_MARK = '▁';

/**
 * Maximum number of merges. Gemma's 262,144 tokens give about 515,000 merges. The number of merges can grow with the
 * square of the vocabulary, so without a limit a small file could fill the disk and the memory.
 */
export const MAX_MERGES = 2 ** 21;

/**
 * Maximum length of all merges together, in UTF-16 units. A longer tokenizer.json would be too large to be read again.
 */
const MAX_MERGE_CHARACTERS = MAX_JSON_BYTES;

/**
 * Maximum length of a token that merges make, in UTF-16 units. The time to find its pairs grows with the square of its
 * length. The longest such tokens of published vocabularies are runs of 128 spaces.
 */
export const MAX_MERGED_LENGTH = 256;

/** Way in which a tokenizer.json marks spaces. */
export interface SpaceMarks {
  /**
   * Where the tokenizer adds a space: at the start of every text between added tokens (`always`), only at the
   * start of the whole text (`first`), or nowhere (`never`).
   */
  readonly prefix: 'always' | 'first' | 'never';
  /**
   * Whether text is split before each character ▁, which stands for a space. If so, ▁ occurs only at the
   * start of a token.
   */
  readonly splits: boolean;
}

/** Reads how a tokenizer.json marks spaces; null if SentencePiece cannot mark them in this way. */
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
  // If a text begins with a space, SentencePiece adds another space. A Metaspace adds none, even with the scheme
  // "always". This scheme therefore counts as `first`, for which the export notes that some tokens differ.
  return { prefix: scheme === 'never' ? 'never' : 'first', splits: pre.split !== false };
}

function stepsOf(normalizer: unknown): Json[] {
  if (!isObject(normalizer)) return [];
  return normalizer.type === 'Sequence' && Array.isArray(normalizer.normalizers)
    ? normalizer.normalizers.filter(isObject)
    : [normalizer];
}

/**
 * Returns whether a pre-tokenizer does nothing once spaces have been replaced. For example, Gemma's
 * pre-tokenizer only splits at spaces.
 */
function isWithoutEffect(pre: unknown): boolean {
  if (pre === null || pre === undefined) return true;
  return isObject(pre) && pre.type === 'Split' && isObject(pre.pattern) && pre.pattern.String === ' ';
}

/**
 * Returns scores with which SentencePiece makes these merges in this order; null if no scores do.
 *
 * Each token has one score, so all pairs that make a token must follow each other in the list. If the pairs of several
 * tokens are mixed, these tokens get the same score. Among equal scores, SentencePiece merges the leftmost pair first.
 * Equal scores are therefore allowed only where this changes no result: for added tokens, which are found before
 * merging, and for runs of one character such as several spaces, which grow from the left whatever their scores are.
 *
 * @param tokens text of each token by id; null for tokens that merges cannot make
 * @param merges pairs in the order in which they are made
 * @param options `splits`: see `SpaceMarks`. `added`: texts of added tokens
 */
export function tokenScores(
  tokens: readonly (string | null)[],
  merges: readonly (readonly [string, string])[],
  { splits, added }: { splits: boolean; added: ReadonlySet<string> },
): number[] | null {
  const known = new Set(tokens);
  const pairs = new Map<string, number>();
  const lastAt = new Map<string, number>();
  for (const [at, [left, right]] of merges.entries()) {
    lastAt.set(left + right, at);
    if (known.has(left) && known.has(right)) pairs.set(left + right, (pairs.get(left + right) ?? 0) + 1);
  }
  for (const text of known) {
    if (text === null) continue;
    if (text.length > MAX_MERGED_LENGTH) return null;
    if (splits && text.slice(1).includes(SPACE_MARK)) return null;
    if (splitsOf(text, known).length !== (pairs.get(text) ?? 0)) return null;
  }
  const ranks = new Map<string, number>();
  let rank = -1;
  let mixed: Set<string> = new Set();
  let end = -1;
  for (const [at, [left, right]] of merges.entries()) {
    const text = left + right;
    if (at > end) {
      mixed = new Set();
      rank++;
    }
    mixed.add(text);
    if (mixed.size > 1 && [...mixed].some((one) => !added.has(one) && !isRun(one))) return null;
    end = Math.max(end, lastAt.get(text)!);
    ranks.set(text, rank);
  }
  return tokens.map((text) => 0 - (ranks.get(text ?? '') ?? 0));
}

/** Returns whether a text repeats one character. */
function isRun(text: string): boolean {
  return new Set(text).size === 1;
}

interface SplitToken {
  readonly pair: [string, string];
  /** Length of the first text of `pair`, in code points. */
  readonly left: number;
}

/** Returns the pairs of known tokens that make a token, with the shortest left part first. */
function splitsOf(text: string, known: ReadonlySet<string | null>): SplitToken[] {
  const found: SplitToken[] = [];
  let at = 0;
  let left = 0;
  for (const character of text) {
    at += character.length;
    left++;
    if (at === text.length) break;
    const right = text.slice(at);
    if (!known.has(right)) continue;
    const start = text.slice(0, at);
    if (known.has(start)) found.push({ pair: [start, right], left });
  }
  return found;
}

/**
 * Returns the merges of a SentencePiece model, in the order in which transformers 5 lists them: the highest score first,
 * then the longest left part, then the longest right part.
 * @param tokens text and score of each token by id; null for tokens that merges cannot make
 * @param unsupported makes the error for a vocabulary with too many merges or too long tokens
 */
export function mergesOfScores(
  tokens: readonly ({ text: string; score: number } | null)[],
  unsupported: (what: string) => Error,
): [string, string][] {
  const known = new Set(tokens.map((token) => token?.text ?? null));
  const found: { pair: [string, string]; score: number; left: number; right: number }[] = [];
  let characters = 0;
  for (const token of tokens) {
    if (token === null) continue;
    const { text, score } = token;
    if (text.length > MAX_MERGED_LENGTH)
      throw unsupported(`a token of ${text.length} characters (maximum ${MAX_MERGED_LENGTH})`);
    const splits = splitsOf(text, known);
    characters += splits.length * text.length;
    if (found.length + splits.length > MAX_MERGES || characters > MAX_MERGE_CHARACTERS)
      throw unsupported(
        `a vocabulary with more than ${MAX_MERGES} merges, or ${MAX_MERGE_CHARACTERS} characters in them`,
      );
    const length = [...text].length;
    for (const { pair, left } of splits) found.push({ pair, score, left, right: length - left });
  }
  return found
    .sort((a, b) => b.score - a.score || b.left - a.left || b.right - a.right)
    .map(({ pair }) => pair);
}
