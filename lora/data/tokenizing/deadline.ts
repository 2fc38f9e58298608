/**
 * Time limits for regular expressions of strangers. A few characters are enough to make a backtracking matcher run for
 * years, and meanwhile nothing else of the process runs, not even what an interrupt would start.
 */

import { createContext, Script } from 'node:vm';
import { dataError } from '../errors.ts';

/**
 * Expressions of Llama 3 and of Qwen 2 and 3, which take time in proportion to the text (measured in
 * docs/decisions/071): they go without a limit, whose watch takes 0.1 to 0.6 ms for each text.
 */
const HARMLESS: ReadonlySet<unknown> = new Set(
  ['{1,3}', ''].map(
    (digits) =>
      String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ),
);

/** Whether anything within parts of tokenizer.json is an expression of unknown cost. */
export function needsDeadline(part: unknown): boolean {
  if (typeof part !== 'object' || part === null) return false;
  return Object.entries(part).some(([name, value]) =>
    name === 'Regex' ? !HARMLESS.has(value) : needsDeadline(value),
  );
}

/** For one text, in milliseconds, and for each character of it: ten times what slow tokenizers take. */
export const DEADLINE_MS = 10_000;
const CHARACTER_MS = 0.01;

const script = new Script('run()');
const world: { run: () => void } = { run: () => {} };
const context = createContext(world);

/**
 * Runs something synchronous until it ends or its time is over. What it changed when that happens stays changed.
 * @param length characters that it works on
 * @throws SwarmError TOKENIZER_LIMIT
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
    // An error of that world, no instance of this one's.
    if ((cause as { code?: unknown } | null)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw cause;
    throw dataError(
      'TOKENIZER_LIMIT',
      `the tokenizer's regular expressions took more than ${timeout / 1000} s for ${length} characters; choose another base model`,
      { timeout, length },
      { cause },
    );
  } finally {
    world.run = () => {};
  }
  return result as T;
}
