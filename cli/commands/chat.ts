import { randomInt } from 'node:crypto';
import type { Command } from 'commander';
import { ADAPTER_HELP, adapterFolder } from '../adapter/folder.ts';
import type { Context } from '../context.ts';
import { usageError } from '../errors.ts';
import { BASE_MODEL } from '../models/base-model.ts';
import { openCliGenerator } from '../models/generator.ts';
import { baseBits, ENGINE_THREADS, integer, jsonOption, number } from '../options/common.ts';
import { templatePath } from '../options/template.ts';
import { printNote } from '../print.ts';
import { type ApiKeyFlags, apiKeys } from '../serve/api-keys.ts';

interface ChatOptions extends Pick<ApiKeyFlags, 'apiKeyFile'> {
  model?: string;
  adapter?: string;
  url?: string;
  system?: string;
  template?: string;
  maxTokens: number;
  temperature: number;
  topP: number;
  seed?: number;
  threads?: number;
  baseBits?: 32 | 8 | 4;
  json?: boolean;
}

export function registerChat(program: Command, context: Context): void {
  program
    .command('chat')
    .description('chat with a model in the terminal: a model on this machine, or one of a running server')
    .option(
      '--model <model>',
      `base model: ${BASE_MODEL}; with --url, a name that the server lists (default: its first adapter)`,
    )
    .option('--adapter <adapter>', `${ADAPTER_HELP} (default: none, the base alone)`)
    .option('--url <url>', 'chat with the server at this address, as "lora-swarm serve" prints it')
    .option(
      '--api-key-file <file>',
      'file with the API key of the server on its first line (environment variable: SWARM_API_KEY)',
    )
    .option('--system <text>', 'instruction that precedes the conversation')
    .option(
      '--template <name>',
      "chat template: chatml, plain or a file (default: the adapter's, else the model's, else plain)",
    )
    .option('--max-tokens <n>', 'maximum number of tokens of an answer', integer(1, 131072), 512)
    .option(
      '--temperature <t>',
      'sampling temperature; 0 always takes the most likely token',
      number(0, 2),
      0.8,
    )
    .option(
      '--top-p <p>',
      'sample only from the most likely tokens whose probabilities add up to p',
      number(0, 1),
      0.95,
    )
    .option('--seed <n>', 'seed of the sampling (default: a random one)', integer(0, 0x7fffffff))
    .option('--threads <n>', ENGINE_THREADS, integer(1, 1024))
    .option('--base-bits <n>', 'bits per weight of the base: 32, 8 or 4 (default: 32)', baseBits)
    .addOption(jsonOption())
    .action((options: ChatOptions) => chat(context, options));
}

async function chat(context: Context, options: ChatOptions): Promise<void> {
  const { url, model, maxTokens, temperature, topP, seed = randomInt(2 ** 31 - 1) } = options;
  const settings = { maxTokens, sampling: { temperature, topP: Math.max(topP, Number.EPSILON), seed } };
  const session = { system: options.system ?? null, json: options.json === true };
  const { runChat } = await import('../chat/session.ts');
  if (url !== undefined) {
    const local = (['adapter', 'template', 'threads', 'baseBits'] as const).find((name) => options[name]);
    if (local !== undefined) {
      throw usageError(
        'with --url, the server chooses adapter, template, threads and base bits',
        'leave out --adapter, --template, --threads and --base-bits, and choose an adapter of the server with --model',
      );
    }
    const { openRemoteChat } = await import('../chat/remote.ts');
    const [key = null] = await apiKeys(context, options);
    const { signal } = context;
    const partner = await openRemoteChat({ url, model: model ?? null, key, signal, ...settings });
    return runChat(context, { partner, ...session, title: `chat with ${partner.model} at ${url}` });
  }
  if (model === undefined) {
    throw usageError('lora-swarm chat needs a model', 'use --model MODEL, or --url URL of a running server');
  }
  const [{ openLocalChat }, { adapterTemplate }] = await Promise.all([
    import('../chat/local.ts'),
    import('../../lora/adapter/adapter-template.ts'),
  ]);
  const adapter = options.adapter === undefined ? null : await adapterFolder(context, options.adapter);
  const { threads, baseBits } = options;
  const generator = await openCliGenerator(context, { model, threads, baseBits, rows: 1 });
  try {
    const loaded = adapter === null ? null : await generator.addAdapter(adapter.folder);
    const partner = await openLocalChat(
      {
        template:
          (options.template === undefined ? null : templatePath(options.template, context.cwd)) ??
          (adapter && (await adapterTemplate(adapter.folder))),
        adapter: loaded?.id,
        ...settings,
      },
      { generator, now: () => context.clock.now() },
    );
    if (partner.isFallback) {
      printNote(context, 'the model has no chat template, so the built-in template "plain" is used');
    }
    const named = options.adapter === undefined ? model : `${model} with ${options.adapter}`;
    try {
      await runChat(context, { partner, ...session, title: `chat with ${named}` });
    } finally {
      await partner.close();
    }
  } finally {
    await generator.close();
  }
}
