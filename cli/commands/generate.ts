import type { Command } from 'commander';
import { safeText } from '../../common/text.ts';
import type { Context } from '../context.ts';
import { integer, jsonOption, number } from '../options/common.ts';
import { addModelOptions, type ModelFlags, openModelBundle } from '../options/model.ts';
import { printJson } from '../print.ts';

interface GenerateOptions extends ModelFlags {
  prompt: string;
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
      'continue a raw text with a model, with or without an adapter. This command uses no chat template; to ask a question, use "lora-swarm chat", which uses the chat template',
    );
  addModelOptions(command)
    .requiredOption('--prompt <text>', 'beginning of the text, which the model continues')
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
  const { generate: continueText } = await import('../../index.ts');
  const { prompt, maxTokens, temperature, topP, seed, json } = options;
  const bundle = await openModelBundle(context, options);
  // A model can generate escape sequences that it learnt from its data. They must not reach the terminal.
  const show = (text: string): void => {
    if (!json)
      context.stdout.write(safeText(text, { multiline: true, maxCharacters: Number.POSITIVE_INFINITY }));
  };
  show(prompt);
  const { text, ids, reason } = await continueText(bundle, {
    prompt,
    maxTokens,
    temperature,
    topP,
    seed,
    onText: show,
    signal: context.signal,
  });
  show('\n');
  if (json) printJson(context, { schemaVersion: 1, prompt, text, tokens: ids.length, reason });
}
