/** A conversation as one example for each of its answers. */
import type { Example, Message } from '../examples.ts';

/** Whether a turn is trained where turns of the assistant are. */
export function isTrainedTurn({ role, weight }: Message): boolean {
  // OpenAI's fine-tuning format leaves turns out of the loss with "weight": 0.
  return role === 'assistant' && weight !== 0;
}

/**
 * The conversation up to each trained turn of the assistant, whose last answer is then trained: every answer in
 * the context that it would be given in, also with templates that rewrite earlier turns. What has no such turn, or
 * is no conversation, stays as it is.
 */
export function* eachAnswer(example: Example): Generator<Example> {
  if (example.kind === 'messages') {
    const ends = answersIn(example.messages);
    for (const end of ends) yield { ...example, messages: example.messages.slice(0, end) };
    if (ends.length > 0) return;
  } else if (example.kind === 'completion' && typeof example.completion !== 'string') {
    const ends = answersIn(example.completion);
    for (const end of ends) yield { ...example, completion: example.completion.slice(0, end) };
    if (ends.length > 0) return;
  }
  yield example;
}

/** Places after the answers. */
function answersIn(messages: readonly Message[]): number[] {
  return messages.flatMap((message, i) => (isTrainedTurn(message) ? [i + 1] : []));
}
