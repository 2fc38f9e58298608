import type { Example, Message } from '../examples.ts';

/** Returns whether training on assistant turns includes this turn. */
export function isTrainedTurn({ role, weight }: Message): boolean {
  // In OpenAI's fine-tuning format, "weight": 0 leaves a turn out of the loss.
  return role === 'assistant' && weight !== 0;
}

/**
 * Yields one example per trained assistant turn: the conversation up to and including that turn. Training then
 * supervises only the last answer of each example. A template may rewrite earlier turns when the conversation goes on,
 * so only the last answer is rendered with the context in which the model would give it. Examples without such turns
 * are yielded unchanged.
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

/** Returns the index of the message after each trained answer. */
function answersIn(messages: readonly Message[]): number[] {
  return messages.flatMap((message, i) => (isTrainedTurn(message) ? [i + 1] : []));
}
