import type { Command } from 'commander';
import { safeText } from '../../common/text.ts';
import { isSwarmError } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import type { DemoEvent } from '../demo/events.ts';
import { DemoView } from '../demo/view.ts';
import { integer, jsonOption } from '../options/common.ts';
import { ProgressLine, printJson, printLines, printWrapped, shownPath } from '../print.ts';
import { wrappedCommand } from '../wrapped-command.ts';

interface DemoFlags {
  nodes: number;
  rounds: number;
  json?: boolean;
}

export function registerDemo(program: Command, context: Context): void {
  program
    .command('demo')
    .description(
      'run a whole swarm on this machine: a coordinator and nodes fine-tune the small model that ships with this program',
    )
    .option('--nodes <n>', 'number of nodes, one process each', integer(2, 64), 3)
    .option('--rounds <n>', 'number of rounds', integer(1, 1000), 8)
    .addOption(jsonOption())
    .action((options: DemoFlags) => demo(context, options));
}

/** Width of the labels of the demo's lines, in columns. */
const INDENT = 11;

async function demo(context: Context, { nodes, rounds, json }: DemoFlags): Promise<void> {
  const { runDemo } = await import('../demo/run.ts');
  const progress = new ProgressLine(context);
  const view = new DemoView();
  const report = (event: DemoEvent): void => {
    if (json) {
      printJson(context, event);
      return;
    }
    // Outside a terminal no progress is printed, because the lines of each round are enough.
    if (event.event === 'progress') {
      if (context.stderr.isTTY) progress.update(view.progress(event));
      return;
    }
    progress.clear();
    if (event.event === 'testing') progress.update('measuring the loss on chapters not used so far');
    if (event.event !== 'summary') {
      printWrapped(context, view.lines(event), INDENT);
      return;
    }
    const adapter = shownPath(context, event.adapter);
    printWrapped(context, view.lines({ ...event, adapter }), INDENT);
    printLines(context, nextLines(context, adapter));
  };
  try {
    await runDemo(context, { nodes, rounds }, report);
  } catch (error) {
    progress.clear();
    if (!json && context.signal.aborted) printLines(context, ['stopped']);
    if (!json && isSwarmError(error, 'HELPER_FAILED')) {
      for (const line of error.values.lines as string[]) context.stderr.write(`  ${safeText(line)}\n`);
    }
    throw error;
  } finally {
    progress.clear();
  }
}

/** @param adapter path of the adapter, as the user would type it */
function nextLines(context: Context, adapter: string): string[] {
  const folder = adapter.replace(/adapter$/, '');
  const model = shownPath(context, `${context.root}models/nano`);
  const commands = [
    ['continues a text', `generate --model ${model} --adapter ${folder}adapter --prompt "Call me"`],
    [
      'measures the adapter',
      `evaluate --model ${model} --adapter ${folder}adapter --data ${folder}data/test`,
    ],
    [
      'trains on the same text without a swarm',
      `train --model ${model} --data ${folder}data/train --output alone`,
    ],
    ['starts the coordinator again, with all its checkpoints', `coordinator --home ${folder}coordinator`],
    ['opens its page in a browser: losses, rounds, peers, checkpoints', `open --home ${folder}coordinator`],
  ] as const;
  const { columns } = context.stdout;
  return [
    'next',
    ...commands.flatMap(([effect, command]) => [
      `  # ${effect}`,
      ...wrappedCommand(`${SWARM} ${command}`, columns && columns - 2).map((line) => `  ${line}`),
    ]),
  ];
}
