import { type Command, Option } from 'commander';
import { safeText } from '../../common/text.ts';
import type { ModelBundle } from '../../index.ts';
import { adapterFolder } from '../adapter/folder.ts';
import type { Context } from '../context.ts';
import { integer, jsonOption, number } from '../options/common.ts';
import { addModelOptions, type ModelFlags, openModelBundle } from '../options/model.ts';
import { templatePath } from '../options/template.ts';
import { printJson } from '../print.ts';

interface GenerateOptions extends ModelFlags {
  prompt: string;
  template?: string;
  raw?: boolean;
  maxTokens: number;
  temperature: number;
  topP: number;
  seed: number;
  json?: boolean;
}

export function registerGenerate(program: Command, context: Context): void {
  const command = program
    .command('generate')
    .description(
      'answer one prompt with a model, with or without an adapter. A model without a chat template continues the prompt as raw text',
    );
  addModelOptions(command)
    .requiredOption('--prompt <text>', 'message to answer, or beginning of a raw text')
    .option(
      '--template <name>',
      "chat template: chatml, plain or a file (default: the adapter's, else the model's, else raw text)",
    )
    .addOption(
      new Option(
        '--raw',
        'continue the prompt as raw text, even if the model or the adapter has a chat template',
      ).conflicts('template'),
    )
    .option('--max-tokens <n>', 'maximum number of tokens to generate', integer(1, 131072), 100)
    .option(
      '--temperature <t>',
      'sampling temperature; 0 always takes the most likely token',
      number(0, 100),
      0.8,
    )
    .option(
      '--top-p <p>',
      'sample only from the most likely tokens whose probabilities add up to p',
      number(0, 1),
      0.95,
    )
    .option(
      '--seed <n>',
      'seed of the sampling; the same seed gives the same text',
      integer(0, 0xffffffff),
      0,
    )
    .addOption(jsonOption())
    .action((options: GenerateOptions) => generate(context, options));
}

async function generate(context: Context, options: GenerateOptions): Promise<void> {
  const { continueTokens } = await import('../../lora/generate/generate.ts');
  const { prompt, maxTokens, temperature, topP, seed, json } = options;
  const bundle = await openModelBundle(context, options);
  // A model can generate escape sequences that it learnt from its data. They must not reach the terminal.
  const show = (text: string): void => {
    if (!json)
      context.stdout.write(safeText(text, { multiline: true, maxCharacters: Number.POSITIVE_INFINITY }));
  };
  const { tokens, endTokens, template } = await promptTokens(context, bundle, options);
  if (template === null) show(prompt);
  const sampling = { maxTokens, temperature, topP, seed };
  const asked = { ...sampling, endTokens, onText: show, signal: context.signal };
  const { text, ids, reason } = await continueTokens(bundle, tokens, asked);
  show('\n');
  if (json) printJson(context, { schemaVersion: 1, prompt, template, text, tokens: ids.length, reason });
}

/**
 * Returns the prompt as tokens: as a message in the chat template of --template, else of the adapter, else of the model, else as
 * raw text.
 * `endTokens` also end the answer. `template` says where the template comes from; null for raw text.
 */
async function promptTokens(
  context: Context,
  { model: { dir }, tokenizer }: ModelBundle,
  { prompt, adapter, template, raw = false }: GenerateOptions,
): Promise<{ tokens: number[]; endTokens: number[]; template: string | null }> {
  const [{ ChatPrompts }, { adapterTemplate }, { readEndTokens }] = await Promise.all([
    import('../../serve/chat-prompt.ts'),
    import('../../lora/adapter/adapter-template.ts'),
    import('../../lora/generate/end-tokens.ts'),
  ]);
  const isNamed = template !== undefined;
  const folder =
    adapter === undefined || raw || isNamed ? null : (await adapterFolder(context, adapter)).folder;
  const chosen = isNamed ? templatePath(template, context.cwd) : folder && (await adapterTemplate(folder));
  const prompts = raw
    ? null
    : await ChatPrompts.open({ dir, template: chosen }, { now: () => context.clock.now() });
  if (prompts === null) {
    const tokens = [...tokenizer.prefix, ...tokenizer.encode(prompt, { special: false })];
    return { tokens, endTokens: [], template: null };
  }
  try {
    const text = await prompts.render([{ role: 'user', content: prompt }]);
    const tokens = tokenizer.encode(text, { special: false });
    return { tokens, endTokens: await readEndTokens(dir), template: prompts.origin };
  } finally {
    await prompts.close();
  }
}
