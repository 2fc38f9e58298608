/**
 * Time limits for untrusted regular expressions. A few characters can make a backtracking matcher run for years. While
 * the matcher runs, no other code of the process can run, not even a signal handler.
 */

import { createContext, Script } from 'node:vm';
import { dataError } from '../errors.ts';

/**
 * The regular expressions in the tokenizers of Llama 3, Qwen 2 and Qwen 3. Their time is proportional to the length
 * of the text (measured in docs/decisions/071). They run without a deadline, because a deadline would cost 0.1 to 0.6
 * ms per text.
 */
const HARMLESS: ReadonlySet<unknown> = new Set(
  ['{1,3}', ''].map(
    (digits) =>
      String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ),
);

/** Returns whether a part of tokenizer.json contains a regular expression of unknown cost. */
export function needsDeadline(part: unknown): boolean {
  if (typeof part !== 'object' || part === null) return false;
  return Object.entries(part).some(([name, value]) =>
    name === 'Regex' ? !HARMLESS.has(value) : needsDeadline(value),
  );
}

/**
 * Deadline per text, in milliseconds, to which CHARACTER_MS is added per character. Only an expression that hangs takes
 * longer.
 */
export const DEADLINE_MS = 10_000;
/** Extra time of the deadline per character, in milliseconds. Slow tokenizers need a tenth of this time. */
const CHARACTER_MS = 0.01;

const script = new Script('run()');
const world: { run: () => void } = { run: () => {} };
const context = createContext(world);

/**
 * Runs a synchronous function with a deadline. If the deadline stops the function, the changes it has made remain.
 * @param length characters that the function works on
 * @throws TOKENIZER_LIMIT
 */
export function withinDeadline<T>(run: () => T, length: number, deadlineMs = DEADLINE_MS): T {
  let result: T | undefined;
  world.run = () => {
    result = run();
  };
  const timeout = Math.ceil(deadlineMs + CHARACTER_MS * length);
  try {
    script.runInContext(context, { timeout });
  } catch (cause) {
    // The error comes from the vm context, which has its own Error class, so `instanceof Error` would be false.
    if ((cause as { code?: unknown } | null)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw cause;
    throw dataError(
      'TOKENIZER_LIMIT',
      `the tokenizer's regular expressions took more than ${timeout / 1000} s for ${length} characters`,
      { timeout, length },
      { cause },
    );
  } finally {
    world.run = () => {};
  }
  return result as T;
}
