import type { Command } from 'commander';
import { commonError } from '../../common/common-errors.ts';
import { ADAPTER_HELP } from '../adapter/folder.ts';
import type { Context } from '../context.ts';
import { type DataEvaluationFlags, evaluateData } from '../evaluate/data.ts';
import { evaluateOnTasks, type TaskFlags } from '../evaluate/tasks.ts';
import { collect, integer, jsonOption } from '../options/common.ts';
import { addDataOptions, DATA_FILES } from '../options/data.ts';
import { addModelOptions } from '../options/model.ts';
import { refuseUnused } from '../options/unused.ts';

type EvaluateFlags = Omit<DataEvaluationFlags, 'data'> &
  Omit<TaskFlags, 'tasks'> & { data?: string[]; tasks?: string[] };

export function registerEvaluate(program: Command, context: Context): void {
  const command = program
    .command('evaluate')
    .description('measure a model, with or without an adapter: its loss on data, or its answers to tasks');
  addModelOptions(command)
    .option('--data <path...>', `data to measure the loss on, as ${DATA_FILES}`, collect)
    .option(
      '--tasks <file...>',
      'task files to evaluate the model on, instead of --data. A task file is a YAML file with the keys of lm-evaluation-harness; it names local files with the documents (docs/evaluation.md)',
      collect,
    )
    .option(
      '--against <adapter...>',
      `compare with this adapter on the same data or documents. Give a ${ADAPTER_HELP}, or "base" for the base alone. With --data, several adapters are compared at once`,
      collect,
    )
    .option(
      '--report <dir>',
      'with --tasks: write a report into this folder, as JSON, as a Markdown card and as an HTML page, with the answers to all documents',
    )
    .option(
      '--training-log <file>',
      'with --report: output of "lora-swarm train --json", whose losses the report shows',
    )
    .option(
      '--record',
      'with --tasks: store the figures with the version that --adapter names (see "lora-swarm adapter show")',
    )
    .option(
      '--limit <n>',
      'use only the first n examples of the data, or the first n documents of each task',
      integer(1),
    )
    .option(
      '--max-length <n>',
      "with --tasks: maximum length of an input in tokens; a longer prompt loses its beginning (default: the model's context)",
      integer(2),
    );
  addDataOptions(command, { packing: false })
    .addOption(jsonOption())
    .action((options: EvaluateFlags, self: Command) => {
      const { data, tasks } = options;
      if (data === undefined) refuseUnused(self, ONLY_DATA, 'with --data');
      if (tasks === undefined) refuseUnused(self, ONLY_TASKS, 'with --tasks');
      return evaluate(context, options);
    });
}

const ONLY_TASKS = ['report', 'trainingLog', 'record', 'maxLength'];
const ONLY_DATA = ['format', 'column', 'trainOn', 'template', 'templateVariable', 'badRows'];

async function evaluate(context: Context, { data, tasks, ...options }: EvaluateFlags): Promise<void> {
  if (data !== undefined && tasks === undefined) return evaluateData(context, { ...options, data });
  if (tasks !== undefined && data === undefined) return evaluateOnTasks(context, { ...options, tasks });
  throw commonError(
    'USAGE',
    'lora-swarm evaluate needs either --data or --tasks',
    {},
    { next: 'give one of these two options' },
  );
}
