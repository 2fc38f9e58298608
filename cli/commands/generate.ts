import type { Command } from 'commander';
import { safeText } from '../../common/text.ts';
import type { Context } from '../context.ts';
import { addSubjectOptions, loadSubject, type SubjectFlags } from '../model-options.ts';
import { integer, jsonOption, number } from '../options.ts';
import { printJson } from '../print.ts';

interface GenerateOptions extends SubjectFlags {
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
    .description('continue a text with a model, with or without an adapter');
  addSubjectOptions(command)
    .requiredOption('--prompt <text>', 'the beginning of the text')
    .option('--max-tokens <n>', 'tokens to write at most', integer(1, 131072), 100)
    .option('--temperature <t>', '0 always takes the likeliest token', number(0, 100), 0.8)
    .option('--top-p <p>', 'sample among the likeliest tokens of this probability', number(0, 1), 0.95)
    .option('--seed <n>', 'equal seeds give equal texts', integer(0, 0xffffffff), 0)
    .addOption(jsonOption())
    .action((options: GenerateOptions) => generate(context, options));
}

async function generate(context: Context, options: GenerateOptions): Promise<void> {
  const { generate: continueText } = await import('../../lora/evaluate/generate.ts');
  const { prompt, maxTokens, temperature, topP, seed, json } = options;
  const subject = await loadSubject(context, options);
  // A model may have learnt escape sequences from its data.
  const show = (text: string): void => {
    if (!json)
      context.stdout.write(safeText(text, { multiline: true, maxCharacters: Number.POSITIVE_INFINITY }));
  };
  show(prompt);
  const { text, ids, reason } = await continueText(
    { prompt, maxTokens, temperature, topP, seed, onText: show, signal: context.signal },
    subject,
  );
  show('\n');
  if (json) printJson(context, { schemaVersion: 1, prompt, text, tokens: ids.length, reason });
}
