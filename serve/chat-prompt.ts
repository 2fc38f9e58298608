import { isSwarmError } from '../common/errors.ts';
import {
  readTemplates,
  type SpecialTokens,
  type TemplateSources,
} from '../lora/data/render/chat-template.ts';
import { TemplateRunner } from '../lora/data/render/template-runner.ts';
import { serveError } from './errors.ts';

/** A message of a conversation. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

export interface ChatPromptOptions {
  /** Folder of the base, with its chat template. */
  readonly dir: string;
  /** Template to use: `chatml`, `plain` or the path of a file; null if the model's own template is used. */
  readonly template: string | null;
}

/**
 * Renders conversations as prompts with the chat template of the model. Templates are untrusted, so they run in a child
 * process with limits on time and memory.
 */
export class ChatPrompts {
  /** Description of where the template comes from, which is shown to people. */
  readonly origin: string;
  readonly #sources: TemplateSources;
  readonly #specialTokens: SpecialTokens;
  readonly #now: () => number;
  #runner: TemplateRunner | null = null;

  private constructor(sources: TemplateSources, specialTokens: SpecialTokens, now: () => number) {
    this.origin = sources.origin;
    this.#sources = sources;
    this.#specialTokens = specialTokens;
    this.#now = now;
  }

  /**
   * Opens the template of a model. Returns null if the model has no template.
   * @param deps `now`: returns the time in milliseconds since 1970
   * @throws SwarmError TEMPLATE_UNREADABLE
   */
  static async open(
    { dir, template }: ChatPromptOptions,
    { now }: { now: () => number },
  ): Promise<ChatPrompts | null> {
    const { sources, specialTokens } = await readTemplates(dir, template);
    return sources === null ? null : new ChatPrompts(sources, specialTokens, now);
  }

  /**
   * Renders the messages, followed by the beginning of the assistant's answer ("generation prompt").
   * @throws SwarmError SERVE_REQUEST if the template refuses the conversation; TEMPLATE_INVALID, TEMPLATE_LIMIT
   */
  async render(messages: readonly ChatMessage[]): Promise<string> {
    this.#runner ??= this.#start();
    const runner = this.#runner;
    try {
      const parts = [{ end: messages.length, addGenerationPrompt: true }];
      const { text, lengths, odd } = await runner.render({ template: 'default', messages, parts });
      // `text` lacks the generation prompt, so the rendered prompt is normally longer than `text`, and is in `odd`. A
      // template without a generation prompt gives a prompt that is a prefix of `text`.
      return odd?.text ?? text.slice(0, lengths[0]);
    } catch (error) {
      if (isSwarmError(error, 'ROW_TEMPLATE')) {
        throw serveError('SERVE_REQUEST', error.message, { param: 'messages' }, { cause: error });
      }
      // A process that reached a limit has ended. The next conversation starts a new process.
      if (this.#runner === runner) this.#runner = null;
      await runner.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#runner?.close();
  }

  #start(): TemplateRunner {
    const { templates } = this.#sources;
    return new TemplateRunner({ templates, variables: { ...this.#specialTokens }, now: this.#now() });
  }
}
