/**
 * Conversations through a chat template, with the loss on what the model would write itself. No template says
 * which of its text that is, so it is found by difference: a turn is what the conversation up to and with it has
 * more than the conversation before it with the header that asks for an answer. That needs a template that
 * writes the beginning of a conversation the same whatever follows; one that does not is refused, not guessed at.
 */

import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import type { Message, Origin } from '../examples.ts';
import type { TextTokenizer } from '../tokenizer.ts';
import type { Rendered, TrainOn } from './rendered.ts';
import { commonPrefix, type Span, tokeniseSpans } from './spans.ts';
import type { TemplateRunner } from './template-runner.ts';
import { isTrainedTurn } from './turns.ts';

export interface Conversation {
  readonly messages: readonly Message[];
  readonly tools: readonly unknown[] | null;
  /** Messages that are the prompt; null where nobody said. */
  readonly promptLength: number | null;
}

export interface ConversationOptions {
  origin: Origin;
  conversation: Conversation;
  trainOn: TrainOn;
  /** Name of the template. */
  template: string;
}

/** Messages [from, to) that are trained as one stretch. */
interface Turn {
  from: number;
  to: number;
}

/** Messages of a conversation whose turns are told apart: the work is the square of their number. */
const MAX_MESSAGES = 1000;

/** @throws DATA_TEMPLATE (file, row, turn, before, after) and as TemplateRunner.render */
export async function renderConversation(
  { origin, conversation, trainOn, template }: ConversationOptions,
  { runner, tokenizer }: { runner: TemplateRunner; tokenizer: TextTokenizer },
): Promise<Rendered> {
  const { messages, tools } = conversation;
  if (trainOn === 'all') {
    const { text } = await runner.render({ template, messages, tools });
    const ids = tokenizer.encode(text, { special: false });
    return { ids, trained: new Uint8Array(ids.length).fill(1), merged: 0 };
  }
  const turns = trainedTurns(conversation, trainOn);
  if (turns.length > 1 && messages.length > MAX_MESSAGES) {
    const reason = `${messages.length} messages, more than the ${MAX_MESSAGES} of a conversation; train on its last answer alone, or split it`;
    throw dataError('ROW_TURNS', `${origin.file}:${origin.row}: ${reason}`, { reason });
  }
  const parts = turns.flatMap(({ from, to }) => [
    { end: from, addGenerationPrompt: true },
    { end: to, addGenerationPrompt: false },
  ]);
  const { text, lengths, odd } = await runner.render({ template, messages, tools, parts });
  if (odd !== null) {
    const { from } = turns[Math.floor(odd.part / 2)]!;
    throw notAPrefix(odd.text, text, { origin, turn: from + 1, header: odd.part % 2 === 0 });
  }
  const spans = turns.map((_, i): Span => {
    const [start, end] = [lengths[2 * i]!, lengths[2 * i + 1]!];
    return { start, end: Math.max(start, end) };
  });
  return tokeniseSpans(text, spans, tokenizer);
}

function trainedTurns({ messages, promptLength }: Conversation, trainOn: Exclude<TrainOn, 'all'>): Turn[] {
  if (promptLength !== null && trainOn === 'completion') return [{ from: promptLength, to: messages.length }];
  const turns = messages.flatMap((message, from): Turn[] =>
    isTrainedTurn(message) && from >= (promptLength ?? 0) ? [{ from, to: from + 1 }] : [],
  );
  return trainOn === 'assistant' ? turns : turns.slice(-1);
}

/** Characters of each text shown around the place where they part. */
const SHOWN = 40;

function notAPrefix(
  part: string,
  text: string,
  { origin, turn, header }: { origin: Origin; turn: number; header: boolean },
): SwarmError {
  const at = commonPrefix(part, text);
  const show = (whole: string): string =>
    JSON.stringify(whole.slice(Math.max(0, at - SHOWN / 2), at + SHOWN));
  const [before, after] = [show(part), show(text)];
  const what = header ? `before turn ${turn}, with the header of an answer,` : `up to turn ${turn}`;
  return dataError(
    'DATA_TEMPLATE',
    `${origin.file}:${origin.row}: the chat template writes the conversation ${what} otherwise when more follows ` +
      `(alone ${before}, in the whole ${after}), so the tokens of the answer cannot be told; make a sample of ` +
      'each answer (--train-on turns), train on everything (--train-on all), or give a template that only appends',
    { file: origin.file, row: origin.row, turn, at, before, after },
  );
}
