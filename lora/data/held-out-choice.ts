import { hash } from 'node:crypto';
import { dataError } from './errors.ts';

/**
 * Number of buckets, one for each value of a hash's first 16 bits. A first pass over the indices counts the hashes in
 * each bucket. A second pass collects only the hashes in the bucket that contains the threshold.
 */
const BUCKETS = 65_536;

/**
 * Text before the index in each hash. The zero is the default seed, because earlier versions hashed the seed. Their runs
 * with the default seed can therefore still be resumed.
 */
const PREFIX = 'held-out/0/';

/** Returns advice if earlier versions chose other examples, because they hashed the seed; null otherwise. */
export function earlierChoiceAdvice({ seed, heldOut }: { seed: number; heldOut: unknown }): string | null {
  if (seed === 0 || typeof heldOut !== 'number') return null;
  return 'if an earlier version of lora-swarm made this job or run, use that version, because it held out other examples';
}

/**
 * Chooses the examples that are held out of training: those with the smallest hashes of their index. The seed of
 * the training does not matter, so that the losses of several seeds are measured on the same examples. At least one
 * example is held out, and at least one is left for training. Memory does not grow with the number of examples, because
 * two passes over the indices replace a sorted list.
 * @param share share of the examples to hold out, between 0 and 1
 * @throws DATA_TOO_SMALL if there are fewer than two examples
 */
export function chooseHeldOut(examples: number, share: number): (index: number) => boolean {
  if (examples < 2) {
    throw dataError(
      'DATA_TOO_SMALL',
      `the data contains ${examples === 1 ? 'one example' : 'no examples'}, which cannot be split into training and ` +
        'held-out data',
      { documents: examples },
    );
  }
  const hashOf = (index: number): string => hash('sha256', `${PREFIX}${index}`, 'hex');
  const bucketOf = (text: string): number => Number.parseInt(text.slice(0, 4), 16);
  let left = Math.min(examples - 1, Math.max(1, Math.round(share * examples)));
  const counts = new Uint32Array(BUCKETS);
  for (let index = 0; index < examples; index++) counts[bucketOf(hashOf(index))]!++;
  let bucket = 0;
  while (left > counts[bucket]!) left -= counts[bucket++]!;
  const inBucket: string[] = [];
  for (let index = 0; index < examples; index++) {
    const text = hashOf(index);
    if (bucketOf(text) === bucket) inBucket.push(text);
  }
  const largest = inBucket.sort()[left - 1]!;
  return (index) => hashOf(index) <= largest;
}
