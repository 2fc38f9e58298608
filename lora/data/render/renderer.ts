/** Renders examples to the tokens that the model sees, and marks which of them are supervised. */
import { dataError } from '../errors.ts';
import type { Example, Message } from '../examples.ts';
import { IGNORED_LABEL as IGNORED } from '../row.ts';
import type { TextTokenizer } from '../tokenizer.ts';
import { alpacaText, instructionMessages } from './alpaca.ts';
import { readTemplates, type SpecialTokens, type TemplateSources } from './chat-template.ts';
import { type Conversation, renderConversation } from './conversation.ts';
import type { Rendered, TrainOn } from './rendered.ts';
import { checkRoles } from './roles.ts';
import { commonPrefix } from './spans.ts';
import { TemplateRunner } from './template-runner.ts';

export interface RendererOptions {
  /** Folder of the model, with its chat template. */
  dir: string;
  /** Template to use: `chatml`, `plain` or a file; null for the model's own. @default null */
  template?: string | null;
  /** Text of a template that is used instead of `template`. @default null */
  source?: string | null;
  /** Further variables for the template (`enable_thinking`, …). @default none */
  variables?: Readonly<Record<string, unknown>>;
  /** Tokens to supervise. null means `completion` for prompts and instructions, and `assistant` for conversations. */
  trainOn?: TrainOn | null;
  /** The current time, in milliseconds since 1970. Chat templates can print the date. */
  now: number;
}

/** Tokenizer, template and settings for `renderExample`. Close the renderer after use. */
export interface Renderer {
  readonly tokenizer: TextTokenizer;
  /** Sources of the chat template; null if there is none. */
  readonly sources: TemplateSources | null;
  readonly specialTokens: SpecialTokens;
  readonly trainOn: TrainOn | null;
  /** Runs the chat template; null if there is none. */
  readonly runner: TemplateRunner | null;
  close(): Promise<void>;
}

/** Opens a renderer. The template's process starts only when an example needs it. @throws TEMPLATE_UNREADABLE */
export async function openRenderer(
  { dir, template = null, source = null, variables = {}, trainOn = null, now }: RendererOptions,
  { tokenizer }: { tokenizer: TextTokenizer },
): Promise<Renderer> {
  const { sources: found, specialTokens } = await readTemplates(dir, template);
  const sources = source === null ? found : { origin: 'given as text', templates: { default: source } };
  const runner =
    sources === null
      ? null
      : new TemplateRunner({
          templates: sources.templates,
          variables: { ...specialTokens, ...variables },
          now,
        });
  return { tokenizer, sources, specialTokens, trainOn, runner, close: async () => runner?.close() };
}

/**
 * Renders one example. Errors with a code in EXAMPLE_CODES concern only this example. All other errors concern every
 * example.
 * @throws ROW_ROLE, ROW_TEMPLATE, ROW_TURNS, ROW_TOKENS, DATA_TEMPLATE, TEMPLATE_MISSING, TEMPLATE_INVALID, TEMPLATE_LIMIT
 */
export async function renderExample(example: Example, renderer: Renderer): Promise<Rendered> {
  const { tokenizer } = renderer;
  const trainOn = renderer.trainOn ?? (example.kind === 'messages' ? 'assistant' : 'completion');
  switch (example.kind) {
    case 'text':
      return whole(endText(encodeText(example.text, tokenizer), tokenizer));
    case 'completion': {
      const { prompt, completion, tools = null } = example;
      if (typeof prompt === 'string' && typeof completion === 'string') {
        return renderCompletion(prompt, completion, trainOn, tokenizer);
      }
      const before = typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt;
      const after =
        typeof completion === 'string' ? [{ role: 'assistant', content: completion }] : completion;
      return renderMessages(
        example,
        { messages: [...before, ...after], tools, promptLength: before.length },
        trainOn,
        renderer,
      );
    }
    case 'messages': {
      const { messages, tools = null } = example;
      return renderMessages(example, { messages, tools, promptLength: null }, trainOn, renderer);
    }
    case 'instruction': {
      if (renderer.runner === null) {
        const { prompt, completion } = alpacaText(example);
        return renderCompletion(prompt, completion, trainOn, tokenizer);
      }
      const messages: Message[] = instructionMessages(example);
      return renderMessages(example, { messages, tools: null, promptLength: null }, trainOn, renderer);
    }
    case 'segments': {
      const parts = example.segments.map(({ text, trained }) => ({
        ids: tokenizer.encode(text, { special: false }),
        trained,
      }));
      const ids = parts.flatMap((part) => part.ids);
      const trained = new Uint8Array(ids.length);
      let offset = 0;
      for (const part of parts) {
        trained.fill(part.trained ? 1 : 0, offset, offset + part.ids.length);
        offset += part.ids.length;
      }
      return { ids, trained, merged: 0 };
    }
    case 'tokens':
      return checkedTokens(example, tokenizer);
  }
}

function renderMessages(
  { origin }: Example,
  conversation: Conversation,
  trainOn: TrainOn,
  { runner, sources, tokenizer }: Renderer,
): Promise<Rendered> {
  if (runner === null || sources === null) {
    throw dataError(
      'TEMPLATE_MISSING',
      `${origin.file}:${origin.row} is a conversation, but the model has no chat template`,
      { file: origin.file, row: origin.row },
    );
  }
  checkRoles(conversation.messages, sources, origin);
  const template =
    conversation.tools !== null && Object.hasOwn(sources.templates, 'tool_use') ? 'tool_use' : 'default';
  return renderConversation({ origin, conversation, trainOn, template }, { runner, tokenizer });
}

/**
 * Tokenises prompt and completion as one text, as TRL does. The prompt is also tokenised alone, and its tokens are
 * compared with the tokens of the whole text. The completion starts at the first difference, or else after the last token
 * of the prompt. Therefore a token that spans the end of the prompt and the start of the completion is supervised.
 */
function renderCompletion(
  prompt: string,
  completion: string,
  trainOn: TrainOn,
  tokenizer: TextTokenizer,
): Rendered {
  const ids = endText(encodeText(prompt + completion, tokenizer), tokenizer);
  if (trainOn === 'all') return whole(ids);
  const alone = encodeText(prompt, tokenizer);
  const start = commonPrefix(alone, ids);
  return { ids, trained: new Uint8Array(ids.length).fill(1, start), merged: start < alone.length ? 1 : 0 };
}

/** Encodes a text with the tokenizer's prefix, but without its suffix, which belongs only at the end of a whole text. */
function encodeText(text: string, tokenizer: TextTokenizer): number[] {
  const { prefix, suffix } = tokenizer;
  const ids = tokenizer.encode(text);
  if (suffix.length > 0) ids.length -= suffix.length;
  // If the text itself starts with the beginning-of-text token, `ids` has the token twice, so one of the two is
  // removed.
  const bos = prefix.at(-1);
  if (bos !== undefined && ids[prefix.length] === bos) ids.splice(prefix.length, 1);
  return ids;
}

/** Appends the tokenizer's suffix, and then the end-of-text token unless the text already ends with it. */
function endText(ids: number[], { suffix, eosId }: TextTokenizer): number[] {
  for (const id of suffix) ids.push(id);
  if (eosId !== null && ids.at(-1) !== eosId) ids.push(eosId);
  return ids;
}

function whole(ids: number[]): Rendered {
  return { ids, trained: new Uint8Array(ids.length).fill(1), merged: 0 };
}

function checkedTokens(
  { origin, ids, labels }: Extract<Example, { kind: 'tokens' }>,
  { vocabSize }: TextTokenizer,
): Rendered {
  const refuse = (reason: string) =>
    dataError('ROW_TOKENS', `${origin.file}:${origin.row}: ${reason}`, { reason });
  if (labels.length !== ids.length)
    throw refuse(`there are ${ids.length} input_ids, but ${labels.length} labels`);
  const trained = new Uint8Array(ids.length);
  for (const [i, id] of ids.entries()) {
    if (!(Number.isInteger(id) && id >= 0 && id < vocabSize)) {
      throw refuse(`${id} is not a token; the tokenizer has ids from 0 to ${vocabSize - 1}`);
    }
    const label = labels[i]!;
    if (label === IGNORED) continue;
    if (label !== id)
      throw refuse(
        `label ${i} is ${label}; it must be ${id}, which is the token at this index, or ${IGNORED}`,
      );
    trained[i] = 1;
  }
  return { ids: [...ids], trained, merged: 0 };
}
