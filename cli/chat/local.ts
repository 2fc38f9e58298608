import type { Generator } from '../../index.ts';
import { ChatPrompts } from '../../serve/chat-prompt.ts';
import { serveError } from '../../serve/errors.ts';
import type { ChatPartner } from './session.ts';

/** Minimum number of tokens that the context must have left for an answer. */
const MIN_ANSWER = 32;

export interface LocalChatOptions {
  /**
   * Chat template: `chatml`, `plain` or a file. null means the model's own, or `plain` if the model has none.
   */
  readonly template: string | null;
  /** Id of the adapter in the generator. */
  readonly adapter: string | undefined;
  readonly maxTokens: number;
  readonly sampling: { readonly temperature: number; readonly topP: number; readonly seed: number };
}

/** A chat partner that answers with a model in the generator of this process. */
export interface LocalChat extends ChatPartner {
  /** Text that tells the user where the chat template comes from. */
  readonly template: string;
  /** Whether the template `plain` is used because the model has no template and the user named none. */
  readonly isFallback: boolean;
  close(): Promise<void>;
}

/**
 * Opens a chat with a model on this machine. If the model has no chat template, the chat uses the built-in template
 * `plain`. With this template, an answer also ends where the model begins to write the user's next message.
 */
export async function openLocalChat(
  { template, adapter, maxTokens, sampling }: LocalChatOptions,
  { generator, now }: { generator: Generator; now: () => number },
): Promise<LocalChat> {
  const { dir } = generator.model;
  const own = await ChatPrompts.open({ dir, template }, { now });
  const prompts = own ?? (await ChatPrompts.open({ dir, template: 'plain' }, { now }))!;
  const isPlain = own === null || template === 'plain';
  let answers = 0;
  return {
    template: prompts.origin,
    isFallback: own === null,
    async answer(messages, { onText, signal }) {
      const tokens = generator.tokenizer.encode(await prompts.render(messages), { special: false });
      const left = generator.context - tokens.length;
      if (left < Math.min(MIN_ANSWER, maxTokens)) {
        const message = `the conversation has ${tokens.length} tokens, and the model has a context of ${generator.context}`;
        throw serveError('CONTEXT_TOO_LONG', message, { tokens: tokens.length, context: generator.context });
      }
      const generation = generator.submit({
        tokens,
        adapter,
        sampling: { ...sampling, seed: sampling.seed + answers++ },
        maxTokens: Math.min(maxTokens, left),
        ...(isPlain && { stop: ['\nUser:'] }),
        signal,
      });
      // The loop below throws the same error, so this rejection needs no other handler.
      generation.result.catch(() => {});
      for await (const { text } of generation) if (text !== '') onText(text);
    },
    close: () => prompts.close(),
  };
}
