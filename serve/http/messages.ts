import { z } from 'zod';
import type { ChatMessage } from '../chat-prompt.ts';
import { serveError } from '../errors.ts';
import type { RouteContext } from './context.ts';
import { checkCharacters } from './fields.ts';

/** Maximum number of messages in a conversation. */
const MAX_MESSAGES = 1000;

const textPart = z.looseObject({ type: z.literal('text'), text: z.string() });

const messageSchema = z
  .looseObject({
    role: z.enum(['system', 'developer', 'user', 'assistant']),
    content: z
      .union([z.string(), z.array(textPart)], 'expected a text, or a list of parts of the type text')
      .nullish()
      .transform((content) =>
        typeof content === 'string' ? content : (content ?? []).map(({ text }) => text).join(''),
      ),
    tool_calls: z.array(z.unknown()).max(0, 'this server does not support tools').nullish(),
  })
  .transform(
    // "developer" is OpenAI's newer name for "system". Templates know only the older name.
    ({ role, content }): ChatMessage => ({ role: role === 'developer' ? 'system' : role, content }),
  );

export const messagesSchema = z.array(messageSchema).min(1).max(MAX_MESSAGES);

/**
 * Renders a conversation with the chat template of a model, and returns its tokens.
 * @param model name of the model
 * @throws SwarmError MODEL_NOT_SERVED, SERVE_REQUEST, SERVE_BUSY, TEMPLATE_*
 */
export async function promptIds(
  { model, messages }: { model: string; messages: readonly ChatMessage[] },
  { catalog, templates, generator }: Pick<RouteContext, 'catalog' | 'templates' | 'generator'>,
): Promise<number[]> {
  checkCharacters(
    messages.map(({ content }) => content),
    'messages',
  );
  const text = await templates.render(messages, await catalog.find(model));
  const ids = generator.tokenizer.encode(text, { special: false });
  if (ids.length === 0)
    throw serveError('SERVE_REQUEST', 'the conversation has no token', { param: 'messages' });
  return ids;
}
