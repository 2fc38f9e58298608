/**
 * Computes the answer to a request for text, for completions and for chats: admits the request, loads the
 * model and runs the choices.
 */
import type { Choice, LoggedToken } from '../answers/choice.ts';
import { type IndexedPiece, runChoices } from '../answers/run-choices.ts';
import { serveError } from '../errors.ts';
import type { Lease } from '../models/catalog.ts';
import { accountOf, type Exchange, type RouteContext, whenClosed, whileConnected } from './context.ts';

/** Token counts of an answer. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** An answer that is being computed. */
export interface Running {
  /** Digest of the adapter's version; null for the base alone. */
  readonly digest: string | null;
  readonly pieces: AsyncGenerator<IndexedPiece, void, undefined>;
  /** Token counts so far. They are complete when the pieces have ended. */
  usage(): Usage;
}

export interface AnswerRequest {
  readonly model: string;
  /** Returns the choices, given the id of the adapter. The choices of a prompt follow each other. */
  choices(adapter: string | undefined): readonly Choice[];
  /** Number of tokens of the prompts. A prompt counts once, however many choices it has. */
  readonly promptTokens: number;
  readonly prompts: number;
  readonly choicesPerPrompt: number;
}

/**
 * Admits a request and loads its model. The choices are computed while the caller iterates over the pieces of text
 * that this function returns.
 *
 * @throws SwarmError SERVE_TOO_MANY, SERVE_BUSY, SERVE_STOPPING, SERVE_CLIENT_GONE, MODEL_NOT_SERVED, ADAPTER_*
 */
export async function startAnswer(
  { model, choices, promptTokens, prompts, choicesPerPrompt }: AnswerRequest,
  exchange: Exchange,
  { admission, access, catalog, generator, isDraining, stopping, clock }: RouteContext,
): Promise<Running> {
  const { request } = exchange;
  const account = accountOf(request);
  account.model = model;
  if (isDraining()) throw serveError('SERVE_STOPPING', 'the server is stopping');
  const client = access.clientOf(request);
  const signal = whileConnected(exchange, stopping);
  signal.throwIfAborted();
  const endAdmission = admission.admit(client, prompts * choicesPerPrompt);
  let lease: Lease;
  try {
    lease = await catalog.lease(model);
  } catch (error) {
    endAdmission();
    throw error;
  }
  account.promptTokens = promptTokens;
  const end = (): void => {
    lease.release();
    endAdmission();
  };
  // If the client disconnects, the iteration may never start, and its `finally` would never run.
  whenClosed(exchange, end);
  if (signal.aborted) {
    end();
    throw signal.reason;
  }
  const pieces = async function* (): AsyncGenerator<IndexedPiece, void, undefined> {
    try {
      const running = runChoices(choices(lease.adapter), { generator, client, signal });
      for await (const piece of running) {
        account.completionTokens += piece.generated;
        // Only the first choice of a prompt counts, because all other choices find the prompt in the cache.
        if (piece.index % choicesPerPrompt === 0) account.cachedTokens += piece.cached;
        if (piece.text !== '') account.firstTokenAt ??= clock.monotonic();
        yield piece;
      }
    } finally {
      end();
    }
  };
  return {
    digest: lease.digest,
    pieces: pieces(),
    usage: () => ({
      prompt_tokens: promptTokens,
      completion_tokens: account.completionTokens,
      total_tokens: promptTokens + account.completionTokens,
      prompt_tokens_details: { cached_tokens: account.cachedTokens },
    }),
  };
}

/** Checks that prompt and answer fit into the context, all in tokens. @throws SwarmError CONTEXT_TOO_LONG */
export function checkLength(prompt: number, maxTokens: number, context: number): void {
  const needed = prompt + maxTokens;
  if (needed <= context) return;
  const message =
    `this model has a context of ${context} tokens, but the request needs ${needed}: ` +
    `${prompt} of the prompt and ${maxTokens} of the answer`;
  throw serveError('CONTEXT_TOO_LONG', message, { context, needed });
}

/** A choice whose pieces have all arrived. */
export interface WholeChoice {
  readonly text: string;
  readonly tokens: readonly LoggedToken[];
  /** Reason why the choice ended. */
  readonly finish: string;
}

/** Waits for all pieces of an answer. Returns its choices. @param count number of choices */
export async function wholeChoices(
  pieces: AsyncIterable<IndexedPiece>,
  count: number,
): Promise<WholeChoice[]> {
  const choices = Array.from({ length: count }, () => ({
    text: '',
    tokens: [] as LoggedToken[],
    finish: 'stop',
  }));
  for await (const { index, text, tokens, finish } of pieces) {
    const choice = choices[index]!;
    choice.text += text;
    choice.tokens.push(...tokens);
    if (finish !== null) choice.finish = finish;
  }
  return choices;
}
