import { resolve } from 'node:path';
import type { Command } from 'commander';
import { formatCount } from '../../monitor/text.ts';
import type { Context } from '../context.ts';
import { collect, jsonOption } from '../options.ts';
import { printJson, printLines } from '../print.ts';
import { addSubjectOptions, loadSubject, type SubjectFlags } from '../subject.ts';

interface EvaluateOptions extends SubjectFlags {
  data: string[];
  json?: boolean;
}

export function registerEvaluate(program: Command, context: Context): void {
  const command = program
    .command('evaluate')
    .description('loss of a model, with or without an adapter, on texts');
  addSubjectOptions(command)
    .requiredOption(
      '--data <path>',
      '.jsonl file of {"text": …} or .txt file or folder; may be repeated',
      collect,
    )
    .addOption(jsonOption())
    .action((options: EvaluateOptions) => evaluate(context, options));
}

async function evaluate(context: Context, options: EvaluateOptions): Promise<void> {
  const [{ evaluateText }, { readDocuments }] = await Promise.all([
    import('../../lora/evaluate/evaluate.ts'),
    import('../../lora/data/text.ts'),
  ]);
  const { signal } = context;
  const subject = await loadSubject(context, options);
  const paths = options.data.map((path) => resolve(context.cwd, path));
  const result = await evaluateText({ texts: readDocuments(paths, { signal }), signal }, subject);
  if (options.json) {
    printJson(context, { schemaVersion: 1, ...result });
    return;
  }
  printLines(context, [
    `loss          ${result.loss.toFixed(4)} nats per token`,
    `perplexity    ${result.perplexity.toFixed(2)}`,
    `bits per byte ${result.bitsPerByte.toFixed(4)}`,
    `tokens        ${formatCount(result.tokens)} in ${formatCount(result.rows)} texts`,
  ]);
}
