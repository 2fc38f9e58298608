/**
 * Renders conversations with a chat template and finds the text that the model itself would write: its turns.
 *
 * Templates do not mark this text, so it is found by comparing two renderings. The first rendering contains the
 * messages before the turn and ends with the header that asks for an answer. The second rendering also contains the
 * turn. The text that the second adds to the first is the turn. This works only if the template renders the start of a
 * conversation in the same way whatever follows. Other templates are refused.
 */

import type { SwarmError } from '../../../common/errors.ts';
import type { Origin } from '../../../protocol/api/job-creation.ts';
import { dataError } from '../errors.ts';
import type { Message } from '../examples.ts';
import type { TextTokenizer } from '../tokenizer.ts';
import type { Rendered, TrainOn } from './rendered.ts';
import { commonPrefix, type Span, tokeniseSpans } from './spans.ts';
import type { TemplateRunner } from './template-runner.ts';
import { isTrainedTurn } from './turns.ts';

export interface Conversation {
  readonly messages: readonly Message[];
  readonly tools: readonly unknown[] | null;
  /** Number of messages at the start that form the prompt; null if the example does not say. */
  readonly promptLength: number | null;
}

export interface ConversationOptions {
  origin: Origin;
  conversation: Conversation;
  trainOn: TrainOn;
  /** Name of the chat template. */
  template: string;
}

/** The messages [from, to), whose text is supervised as one span. */
interface Turn {
  from: number;
  to: number;
}

/**
 * Maximum number of messages in a conversation with several supervised turns. The time to find these turns is quadratic
 * in the number of messages, and is 2 s for 1,000 messages.
 */
const MAX_MESSAGES = 1000;

/**
 * Renders a conversation and marks its supervised tokens.
 * @throws DATA_TEMPLATE (values: file, row, turn, at, before, after), ROW_TURNS; errors of TemplateRunner.render
 */
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
    const reason = `the conversation has ${messages.length} messages (maximum ${MAX_MESSAGES})`;
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

/** Number of characters shown after the first difference of two texts. Half as many are shown before it. */
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
  const start = header
    ? `turns before turn ${turn}, followed by the generation prompt`
    : `turns up to turn ${turn}`;
  return dataError(
    'DATA_TEMPLATE',
    `${origin.file}:${origin.row}: the tokens of the answer in turn ${turn} cannot be found, because the chat template ` +
      `renders the ${start}, as ${before}, but the same part of the whole conversation as ${after}`,
    { file: origin.file, row: origin.row, turn, at, before, after },
  );
}
