import { isSwarmError } from '../../common/errors.ts';
import { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { FuzzDecoder } from './decoder.ts';
import { mutate } from './mutate.ts';

/** Maximum CPU time of a decoder, in microseconds for each KiB or part of a KiB of its input. */
const MICROSECONDS_PER_KIB = 1000;
/**
 * Number of times that a slow input is decoded again. The shortest time counts, because the other times may include a
 * garbage collection.
 */
const REPETITIONS = 5;
/** Number of inputs between two measurements of the memory. */
const MEASURED_INPUTS = 64;
/** Maximum growth of the memory during `MEASURED_INPUTS` inputs, in bytes. Garbage that is not collected yet counts. */
const MEMORY_BYTES = 64 * 2 ** 20;
/** Number of valid encodings of a decoder from which its inputs are made. */
const EXAMPLES = 32;
/** A decoder stops at this number of findings, because further findings usually have the same cause. */
const MAX_FINDINGS = 5;

/** An input that a decoder handles wrongly. */
export interface Finding {
  readonly decoder: string;
  readonly what: string;
  /** The input in hexadecimal. */
  readonly input: string;
}

export interface FuzzResult {
  readonly inputs: number;
  readonly accepted: number;
  /** Number of refused inputs by error code. */
  readonly refused: Readonly<Record<string, number>>;
  /** The shortest refused input of each error code, in hexadecimal. */
  readonly shortest: Readonly<Record<string, string>>;
  readonly findings: readonly Finding[];
}

/**
 * Decodes `inputs` changed encodings, which the seed decides. A finding is an error without a code, an input that
 * takes too much CPU time or memory, or a change of `Object.prototype`.
 */
export function fuzzDecoder(
  decoder: FuzzDecoder,
  { seed, inputs }: { seed: number; inputs: number },
): FuzzResult {
  const random = new SeededRandom(seed);
  const examples = Array.from({ length: EXAMPLES }, () => decoder.example(random));
  const findings: Finding[] = [];
  const refused: Record<string, number> = {};
  const shortest: Record<string, string> = {};
  let accepted = 0;
  let memory = memoryBytes();
  let input = 0;
  for (; input < inputs && findings.length < MAX_FINDINGS; input++) {
    const bytes = mutate(random.pick(examples), random.pick(examples), decoder.cbor ?? false, random);
    const { code, problem } = tryInput(decoder, bytes);
    if (code === null) accepted++;
    else {
      refused[code] = (refused[code] ?? 0) + 1;
      if (2 * bytes.length < (shortest[code]?.length ?? Infinity))
        shortest[code] = Buffer.from(bytes).toString('hex');
    }
    if (problem !== null) findings.push(finding(decoder, problem, bytes));
    if (input % MEASURED_INPUTS === 0) {
      const now = memoryBytes();
      if (now - memory > MEMORY_BYTES)
        findings.push(
          finding(decoder, `took ${(now - memory) / 2 ** 20} MiB before or at this input`, bytes),
        );
      memory = now;
    }
  }
  return { inputs: input, accepted, refused, shortest, findings };
}

/**
 * Decodes one input.
 * @returns `code`: error code of the refusal; null if the decoder accepted the input. `problem`: what the decoder did
 *   wrong; null if nothing
 */
export function tryInput(
  decoder: FuzzDecoder,
  bytes: Uint8Array,
): { code: string | null; problem: string | null } {
  const { fixedMicroseconds = 0 } = decoder;
  const allowed = fixedMicroseconds + MICROSECONDS_PER_KIB * Math.max(1, Math.ceil(bytes.length / 1024));
  let first = decodeOnce(decoder, bytes);
  if (first.micros > allowed) {
    const times = Array.from({ length: REPETITIONS }, () => decodeOnce(decoder, bytes).micros);
    const least = Math.min(...times);
    if (least > allowed) first = { ...first, problem: `took ${least} µs for ${bytes.length} bytes` };
  }
  return first;
}

function decodeOnce(decoder: FuzzDecoder, bytes: Uint8Array) {
  let code: string | null = null;
  let problem: string | null = null;
  const start = process.threadCpuUsage();
  try {
    decoder.decode(bytes);
  } catch (error) {
    if (isSwarmError(error)) code = error.code;
    else problem = `threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  }
  const { user, system } = process.threadCpuUsage(start);
  for (const key in {}) problem = `set Object.prototype.${key}`;
  return { code, problem, micros: user + system };
}

function memoryBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function finding(decoder: FuzzDecoder, what: string, bytes: Uint8Array): Finding {
  return { decoder: decoder.name, what, input: Buffer.from(bytes).toString('hex') };
}
