/**
 * Makes simulations faster: repeats of the same verification and of the same parsing of a key take their result from a
 * cache. All nodes of a simulated swarm run in this process, so most messages are verified several times. The functions
 * are pure, so a simulation takes the same course. Import this module before any module that uses node:crypto.
 */
import crypto, { type KeyObject } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

/** The cache is emptied at this number of entries. One simulated run makes fewer. */
const MAX_ENTRIES = 20_000;

const cache = new Map<string, unknown>();
const derived = new WeakMap<KeyObject, KeyObject>();
const { createHash, createPrivateKey, createPublicKey, verify } = crypto;

function cached<T>(key: string, compute: () => T): T {
  if (cache.size > MAX_ENTRIES) cache.clear();
  if (!cache.has(key)) cache.set(key, compute());
  return cache.get(key) as T;
}

type DerKey = { key: Uint8Array; format: 'der' };
const isDer = (input: unknown): input is DerKey =>
  typeof input === 'object' && input !== null && 'format' in input && input.format === 'der';
const textOf = ({ key }: DerKey): string => Buffer.from(key).toString('base64');

crypto.createPublicKey = ((input: Parameters<typeof createPublicKey>[0]) => {
  if (isDer(input)) return cached(`public ${textOf(input)}`, () => createPublicKey(input));
  const known = derived.get(input as KeyObject);
  if (known !== undefined) return known;
  const made = createPublicKey(input);
  derived.set(input as KeyObject, made);
  return made;
}) as typeof createPublicKey;

crypto.createPrivateKey = ((input: Parameters<typeof createPrivateKey>[0]) =>
  isDer(input)
    ? cached(`private ${textOf(input)}`, () => createPrivateKey(input))
    : createPrivateKey(input)) as typeof createPrivateKey;

/** Numbers of the keys, because a KeyObject has no text of its own. */
const numbers = new WeakMap<KeyObject, number>();
let count = 0;

crypto.verify = ((algorithm: null, data: Uint8Array, key: KeyObject, signature: Uint8Array): boolean => {
  if (!numbers.has(key)) numbers.set(key, count++);
  const hash = createHash('sha256').update(data).update(signature).digest('base64');
  return cached(`verify ${numbers.get(key)} ${hash}`, () => verify(algorithm, data, key, signature));
}) as typeof verify;

syncBuiltinESMExports();
