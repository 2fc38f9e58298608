/**
 * The State of the Union addresses as training rows. Whole speeches are held out. All other speeches are cut
 * into passages of whole sentences.
 *
 * Every passage starts with the beginning-of-text token, so that the model can start with any sentence. Each
 * epoch cuts the passages at different places. The text repeats in each epoch, but the rows do not.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Row } from '../../lora/data/row.ts';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import { packSequences } from './pack-documents.ts';

/** One in this many speeches is held out, so that the held-out speeches are spread over the two centuries. */
const HELD_OUT_EVERY = 20;
/** Share of passages that are cut shorter than a row, so that the model also learns short texts. */
const SHORT_PASSAGES = 0.3;
/** Minimum target length of a passage, in tokens. */
const MIN_PASSAGE_TOKENS = 24;

export interface Speech {
  readonly name: string;
  readonly text: string;
}

/** Reads data/*.txt of the package folder, and removes white space at both ends. */
export async function readSpeeches(packageDir: string): Promise<{ training: Speech[]; heldOut: Speech[] }> {
  const dir = join(packageDir, 'data');
  const names = (await readdir(dir)).filter((name) => name.endsWith('.txt')).sort();
  const speeches = await Promise.all(
    names.map(async (name) => ({ name, text: (await readFile(join(dir, name), 'utf8')).trim() })),
  );
  const isHeldOut = (index: number) => index % HELD_OUT_EVERY === HELD_OUT_EVERY / 2;
  return {
    training: speeches.filter((_, i) => !isHeldOut(i)),
    heldOut: speeches.filter((_, i) => isHeldOut(i)),
  };
}

/** The tokens of a sentence at the start of a passage (`first`), and after a space inside a passage (`later`). */
interface Sentence {
  readonly first: readonly number[];
  readonly later: readonly number[];
}

export class PassageSampler {
  readonly #speeches: Sentence[][];
  readonly #tokenizer: TextTokenizer;
  readonly #sequenceLength: number;

  constructor(
    options: { sequenceLength: number },
    deps: { speeches: readonly Speech[]; tokenizer: TextTokenizer },
  ) {
    this.#sequenceLength = options.sequenceLength;
    this.#tokenizer = deps.tokenizer;
    const encode = (text: string) => deps.tokenizer.encode(text, { special: false });
    this.#speeches = deps.speeches.map(({ text }) =>
      sentences(text).map((sentence) => ({ first: encode(sentence), later: encode(` ${sentence}`) })),
    );
  }

  /** Returns all rows of an epoch, shuffled. They depend only on seed and epoch. */
  rows(seed: number, epoch: number): Row[] {
    const random = new SeededRandom(seed, epoch);
    const restart = this.#tokenizer.bosId;
    const passages = random.shuffle([...this.#passages(random)]);
    return random.shuffle([...packSequences(passages, { sequenceLength: this.#sequenceLength, restart })]);
  }

  *#passages(random: SeededRandom): Generator<number[]> {
    const { bosId, eosId } = this.#tokenizer;
    // A passage of n + 1 tokens fills n positions of a row, because its last token is predicted, but is not an input.
    const limit = () =>
      random.uniform() < SHORT_PASSAGES
        ? MIN_PASSAGE_TOKENS + random.integer(this.#sequenceLength - MIN_PASSAGE_TOKENS)
        : this.#sequenceLength;
    for (const speech of this.#speeches) {
      let passage = [bosId!];
      let room = limit();
      for (const { first, later } of speech) {
        if (passage.length > 1 && passage.length - 1 + later.length > room) {
          yield passage;
          passage = [bosId!];
          room = limit();
        }
        passage.push(...(passage.length === 1 ? first : later));
      }
      yield [...passage, eosId!];
    }
  }
}

/** Splits a text into sentences: after . ! ? (and closing marks) before a capital letter or a digit. */
function sentences(text: string): string[] {
  return text.split(/(?<=[.!?]["')\]]*)\s+(?=["'([]*[A-Z0-9])/);
}
