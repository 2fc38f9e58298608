import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { runningDaemons } from '../daemon/running.ts';
import { homeOption, jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';

interface TopOptions {
  home?: string;
  json?: boolean;
}

/** Size of the frame that is printed if the output is not a terminal. The rows are enough for all jobs and nodes. */
const PLAIN_SIZE = { columns: 120, rows: 10_000 };

export function registerTop(program: Command, context: Context): void {
  program
    .command('top')
    .description(
      'show the jobs, round, nodes, events and alerts of a coordinator or node of this machine on one screen, which is updated continuously; without a terminal, print the screen once',
    )
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((options: TopOptions) => top(context, options));
}

async function top(context: Context, { home, json = false }: TopOptions): Promise<void> {
  // If a coordinator and a node run in the default homes, the first one is the coordinator. --home chooses the node.
  const [daemon] = await runningDaemons(context, home);
  const { firstState, showTop } = await import('../top/run.ts');
  const isScreen = context.stdout.isTTY && context.stdin.isTerminal && context.environment.TERM !== 'dumb';
  if (isScreen && !json) return showTop(context, home, daemon!);
  const state = await firstState(context, daemon!);
  if (json) return printJson(context, { schemaVersion: 1, ...state.facts });
  const { frameLines } = await import('../top/frame.ts');
  const lines = frameLines(state, PLAIN_SIZE).map(({ text }) => text);
  // The last line names keys, and blank lines fill the screen. Output to a file or a pipe needs neither.
  const content = lines.slice(0, -1);
  printLines(context, content.slice(0, content.findLastIndex((line) => line !== '') + 1));
}
