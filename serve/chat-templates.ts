import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { adapterTemplate } from '../lora/adapter/adapter-template.ts';
import { type ChatMessage, ChatPrompts } from './chat-prompt.ts';
import { serveError } from './errors.ts';
import type { ServedVersion } from './models/adapter-source.ts';

/**
 * Maximum number of templates of adapters that are ready for use. Each has a child process, which takes about 50 MB.
 * Adapters with equal templates share one process.
 */
const MAX_ADAPTER_TEMPLATES = 8;

export interface ChatTemplatesOptions {
  /** Folder of the base. */
  readonly dir: string;
  /** Template for all models: `chatml`, `plain` or the path of a file; null if each model uses its own template. */
  readonly template: string | null;
}

interface Ready {
  readonly prompts: Promise<ChatPrompts>;
  users: number;
}

/**
 * Renders conversations as prompts. The template is the one that the operator chose for all models, else the adapter's
 * own template, else the base's template.
 */
export class ChatTemplates {
  readonly #options: ChatTemplatesOptions;
  readonly #base: ChatPrompts | null;
  readonly #now: () => number;
  /** Templates of adapters by the digest of their text, from the least to the most recently used. */
  readonly #ready = new Map<string, Ready>();

  private constructor(options: ChatTemplatesOptions, base: ChatPrompts | null, now: () => number) {
    this.#options = options;
    this.#base = base;
    this.#now = now;
  }

  /** @param deps `now`: milliseconds since 1970 @throws SwarmError TEMPLATE_UNREADABLE */
  static async open(options: ChatTemplatesOptions, { now }: { now: () => number }): Promise<ChatTemplates> {
    return new ChatTemplates(options, await ChatPrompts.open(options, { now }), now);
  }

  /** Text that tells people where the template of the base comes from; null if the base has no template. */
  get origin(): string | null {
    return this.#base?.origin ?? null;
  }

  /**
   * Renders the messages, followed by the beginning of the assistant's answer.
   * @param version version of the adapter; null for the base alone
   * @throws SwarmError SERVE_REQUEST if there is no template, or if it refuses the conversation; SERVE_BUSY if
   *   running requests use the maximum number of templates; TEMPLATE_*; the errors of `ServedVersion.folder`
   */
  async render(messages: readonly ChatMessage[], version: ServedVersion | null): Promise<string> {
    const file =
      version === null || this.#options.template !== null
        ? null
        : await adapterTemplate(await version.folder());
    if (file === null) return this.#require().render(messages);
    const digest = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    const ready = this.#ready.get(digest) ?? this.#open(file);
    this.#ready.delete(digest);
    this.#ready.set(digest, ready);
    ready.users++;
    try {
      return await (await ready.prompts).render(messages);
    } catch (error) {
      // The next conversation tries again to open a template that could not be opened.
      const failed = await ready.prompts.then(
        () => false,
        () => true,
      );
      if (failed && this.#ready.get(digest) === ready) this.#ready.delete(digest);
      throw error;
    } finally {
      ready.users--;
    }
  }

  async close(): Promise<void> {
    await this.#base?.close();
    await Promise.all([...this.#ready.values()].map(close));
  }

  #require(): ChatPrompts {
    if (this.#base !== null) return this.#base;
    throw serveError(
      'SERVE_REQUEST',
      'the model has no chat template, so it cannot chat',
      { param: 'messages' },
      { next: 'use /v1/completions, or start the server with --template chatml, plain or a file' },
    );
  }

  #open(file: string): Ready {
    this.#freePlace();
    const prompts = ChatPrompts.open({ dir: this.#options.dir, template: file }, { now: this.#now });
    // A template is named here, so `ChatPrompts.open` does not return null.
    return { prompts: prompts.then((opened) => opened!), users: 0 };
  }

  #freePlace(): void {
    if (this.#ready.size < MAX_ADAPTER_TEMPLATES) return;
    const unused = [...this.#ready].find(([, { users }]) => users === 0);
    if (unused === undefined) {
      const message = `requests already use ${MAX_ADAPTER_TEMPLATES} chat templates of adapters, which is the maximum at one time`;
      throw serveError('SERVE_BUSY', message, { limit: MAX_ADAPTER_TEMPLATES });
    }
    this.#ready.delete(unused[0]);
    void close(unused[1]);
  }
}

async function close({ prompts }: Ready): Promise<void> {
  // A template that could not be opened has no process, so there is nothing to close.
  const opened = await prompts.catch(() => null);
  await opened?.close();
}
