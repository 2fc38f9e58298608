/** A conversation in the terminal. */
import { safeText } from '../../common/text.ts';
import { isSwarmError } from '../../index.ts';
import type { ChatMessage } from '../../serve/chat-prompt.ts';
import type { Context } from '../context.ts';
import { printJson, printNote } from '../print.ts';

/** A model that continues a conversation. */
export interface ChatPartner {
  /**
   * Answers the last message. Calls `onText` with each piece of the answer.
   * @throws SwarmError CONTEXT_TOO_LONG if the conversation does not fit; the signal's reason
   */
  answer(
    messages: readonly ChatMessage[],
    options: { readonly onText: (piece: string) => void; readonly signal: AbortSignal },
  ): Promise<void>;
}

export interface ChatSession {
  readonly partner: ChatPartner;
  /** Instruction that precedes the conversation; null if there is none. */
  readonly system: string | null;
  /** Text that names the model, shown when the chat begins. */
  readonly title: string;
  /** Whether to print each answer as one line of JSON. */
  readonly json: boolean;
}

/** Commands of the conversation, with their help. */
const COMMANDS = '/exit ends the chat, /clear starts again, Ctrl-C stops an answer';

/**
 * Reads messages line by line and prints the answers, until the input ends or a line is `/exit`. Ctrl-C stops the answer
 * that is being printed; the stopped answer stays in the conversation. If the conversation gets too long for the model,
 * its oldest messages are left out.
 */
export async function runChat(
  context: Context,
  { partner, system, title, json }: ChatSession,
): Promise<void> {
  const { stdout, stdin, signal } = context;
  const isInteractive = stdin.isTerminal && !json;
  const start: ChatMessage[] = system === null ? [] : [{ role: 'system', content: system }];
  let messages = [...start];
  if (isInteractive) printNote(context, `${title}; ${COMMANDS}`);
  const prompt = (): void => {
    if (isInteractive) stdout.write('> ');
  };
  prompt();
  for await (const line of linesOf(stdin.read(signal))) {
    const text = line.trim();
    if (text === '/exit' || text === '/quit') return;
    if (text === '/clear') messages = [...start];
    else if (/^\/\S+$/.test(text)) printNote(context, `no command ${text}; ${COMMANDS}`);
    else if (text !== '') {
      messages.push({ role: 'user', content: text });
      const content = await answer(context, { partner, messages, kept: start.length, json });
      if (json) printJson(context, { schemaVersion: 1, event: 'answer', message: text, answer: content });
      else stdout.write('\n');
      messages.push({ role: 'assistant', content });
    }
    prompt();
  }
  if (isInteractive) stdout.write('\n');
}

interface AnswerOptions {
  partner: ChatPartner;
  /** The conversation. Messages that do not fit are removed from it. */
  messages: ChatMessage[];
  /** Number of messages at the start of the conversation that are never removed. */
  kept: number;
  json: boolean;
}

/** Prints an answer as it arrives, and returns it. */
async function answer(context: Context, { partner, messages, kept, json }: AnswerOptions): Promise<string> {
  const { stdout, signal } = context;
  const stopped = new AbortController();
  const release = context.onInterrupt(() => stopped.abort());
  let text = '';
  // A model can generate escape sequences that it learnt from its data. They must not reach the terminal.
  const onText = (piece: string): void => {
    text += piece;
    if (!json) stdout.write(safeText(piece, { multiline: true, maxCharacters: Number.POSITIVE_INFINITY }));
  };
  try {
    for (;;) {
      try {
        const either = AbortSignal.any([signal, stopped.signal]);
        await partner.answer(messages, { onText, signal: either });
        break;
      } catch (error) {
        signal.throwIfAborted();
        if (stopped.signal.aborted) break;
        // A question and its answer are left out together, because chat templates expect the two roles in alternation.
        const canShorten = isSwarmError(error, 'CONTEXT_TOO_LONG') && messages.length >= kept + 3;
        if (!canShorten) throw error;
        messages.splice(kept, 2);
        printNote(context, 'the conversation is too long for the model, so its oldest messages are left out');
      }
    }
  } finally {
    release();
  }
  return text;
}

/** Splits pieces of input into lines. The last line may have no line break. */
async function* linesOf(pieces: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let rest = '';
  for await (const piece of pieces) {
    const lines = (rest + piece).split(/\r?\n/);
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== '') yield rest;
}
