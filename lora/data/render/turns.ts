import type { Example, Message } from '../examples.ts';

/** Returns whether a turn is trained when assistant turns are trained. */
export function isTrainedTurn({ role, weight }: Message): boolean {
  // In OpenAI's fine-tuning format, "weight": 0 leaves a turn out of the loss.
  return role === 'assistant' && weight !== 0;
}

/**
 * Yields one example per trained assistant turn: the conversation up to and including that turn. When only the last
 * answer of each example is trained, every answer has the context in which the model would give it, even if the template
 * rewrites earlier turns. Examples without such turns are yielded unchanged.
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

/** Returns the index after each trained answer. */
function answersIn(messages: readonly Message[]): number[] {
  return messages.flatMap((message, i) => (isTrainedTurn(message) ? [i + 1] : []));
}
