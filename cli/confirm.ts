import type { Context } from './context.ts';
import { cliError } from './error-codes.ts';

/**
 * Asks the user on a terminal whether to continue. Without a terminal, the user cannot answer, so the command continues.
 * @throws SwarmError NOT_CONFIRMED if the answer is not yes
 */
export async function confirm(context: Context, question: string): Promise<void> {
  const { stdin, stderr, signal } = context;
  if (!stdin.isTerminal) return;
  stderr.write(`${question} [y/N] `);
  let answer = '';
  for await (const piece of stdin.read(signal)) {
    answer += piece;
    if (answer.includes('\n')) break;
  }
  if (/^\s*y(es)?\s*$/i.test(answer.split('\n')[0]!)) return;
  throw cliError(
    'NOT_CONFIRMED',
    'the answer was not yes, so nothing was changed',
    {},
    { next: 'answer "y", or add --yes' },
  );
}
