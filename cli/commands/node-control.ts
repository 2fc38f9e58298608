import { type Command, Option } from 'commander';
import { resolveHomes } from '../../common/files/user-folders.ts';
import { formatDuration } from '../../common/text.ts';
import type { ApiClient, KeptLimits, NodeStatus } from '../../index.ts';
import { diskNote, NODE_LIMITS } from '../../monitor/node-limits.ts';
import { claimHome, isDaemonAway } from '../../storage/daemon-home.ts';
import { folderBytes } from '../../storage/folder-size.ts';
import { SWARM, withHome } from '../command-name.ts';
import type { Context } from '../context.ts';
import { daemonApi } from '../daemon/connect.ts';
import { pollUntilAborted } from '../daemon/run.ts';
import { runningNode } from '../daemon/running-node.ts';
import { homeOption, jsonOption, pauseLength } from '../options/common.ts';
import { keysAtStart, LIMIT_INDENT, limitLines, parseLimits } from '../options/limits.ts';
import { printJson, printLines, printWrapped } from '../print.ts';
import { homeFlag } from '../views/thanks.ts';

interface ControlOptions {
  home?: string;
  json?: boolean;
}

/** Registers the commands that control the node of a home. @param node the command `node` */
export function registerNodeControl(node: Command, context: Context): void {
  // Options after the name of one of these commands belong to that command.
  node.enablePositionalOptions();
  const add = (name: string, text: string): Command =>
    node.command(name).description(text).addOption(homeOption()).addOption(jsonOption());
  add('pause', 'pause the node that runs on this machine, before its next training step')
    .addOption(
      new Option(
        '--for <time>',
        'time after which the pause ends, such as 30m, 2h or 1d (default: until "lora-swarm node resume")',
      ).argParser(pauseLength),
    )
    .action((_options: ControlOptions, command: Command) => pause(context, command.optsWithGlobals()));
  add('resume', 'end the pause of a node').action((_options: ControlOptions, command: Command) =>
    resume(context, command.optsWithGlobals()),
  );
  add(
    'drain',
    'let the node finish its current round, then stop it; the command returns when the node has stopped',
  ).action((_options: ControlOptions, command: Command) => drain(context, command.optsWithGlobals()));
  add('config', 'show or set the limits that are stored in the home of a node; the node need not run')
    .argument(
      '[limit...]',
      `limit to set, as KEY=VALUE or KEY=default; the keys are ${Object.keys(NODE_LIMITS).join(', ')}, as in the options of "lora-swarm node". Without this argument, the command shows all limits`,
    )
    .action((texts: string[], _options: ControlOptions, command: Command) =>
      config(context, texts, command.optsWithGlobals()),
    );
}

/** Returns the option `--home`, preceded by a space, for a further command to the same node; empty if it needs none. */
function flagOf(context: Context, { home }: ControlOptions): string {
  return homeFlag(context, resolveHomes(home, context.environment, context.cwd).node);
}

async function pause(context: Context, options: ControlOptions & { for?: number }): Promise<void> {
  const { for: forMs = Infinity, json } = options;
  const api = await daemonApi(context, options, 'node');
  await api.orderNode('pause', { forMs: forMs === Infinity ? null : forMs });
  if (json) printJson(context, { schemaVersion: 1, pause: (await api.status<NodeStatus>()).pause });
  else {
    const resume = `"${SWARM} node resume${flagOf(context, options)}"`;
    const end = forMs === Infinity ? `until ${resume}` : `for ${formatDuration(forMs / 1000)}`;
    printLines(context, [`paused ${end}; the node tells its coordinators that it takes no work`]);
  }
}

async function resume(context: Context, options: ControlOptions): Promise<void> {
  const api = await daemonApi(context, options, 'node');
  const { pause: before } = await api.status<NodeStatus>();
  await api.orderNode('resume', {});
  const { pause: left } = await api.status<NodeStatus>();
  if (options.json) printJson(context, { schemaVersion: 1, pause: left });
  else
    printLines(context, [
      resumedLine(before, left && { ...left, text: withHome(left.text, flagOf(context, options)) }),
    ]);
}

/**
 * Returns what the command `resume` prints.
 * @param before the pause of the node before the command
 * @param left the pause of the node after the command
 */
export function resumedLine(before: NodeStatus['pause'], left: NodeStatus['pause']): string {
  const done = before?.reason === 'paused' ? 'resumed' : 'you had not paused this node';
  return left === null ? done : `${done}, but the node still waits: ${left.text}`;
}

async function drain(context: Context, options: ControlOptions): Promise<void> {
  const api = await daemonApi(context, options, 'node');
  await api.orderNode('drain', {});
  if (!options.json) printLines(context, ['the node takes no new work, and stops after its present round']);
  const stopped = new AbortController();
  await pollUntilAborted(AbortSignal.any([stopped.signal, context.signal]), async () => {
    await api.status().catch((error: unknown) => {
      if (!isDaemonAway(error)) throw error;
      stopped.abort();
    });
  });
  if (!stopped.signal.aborted) return;
  if (options.json) printJson(context, { schemaVersion: 1, stopped: true });
  else printLines(context, ['stopped']);
}

async function config(context: Context, texts: readonly string[], options: ControlOptions): Promise<void> {
  const changes = parseLimits(texts);
  const { node: home } = resolveHomes(options.home, context.environment, context.cwd);
  const running = await runningNode(context, home);
  const limits = running === null ? await keepLimits(home, changes) : await orderLimits(running, changes);
  const late = running === null ? [] : keysAtStart(changes);
  const { maxDiskBytes } = limits;
  const note = maxDiskBytes === undefined ? null : diskNote(await folderBytes(home), maxDiskBytes);
  if (options.json) {
    const kept = { home, running: running !== null, limits, afterRestart: late, diskNote: note };
    printJson(context, { schemaVersion: 1, ...kept });
    return;
  }
  printWrapped(
    context,
    [
      ...limitLines(limits),
      `home  ${home}, ${running === null ? 'whose node does not run; the limits apply at its next start' : 'whose node runs'}`,
      ...(late.length === 0
        ? []
        : [`note  ${late.join(', ')}: a change takes effect at the next start of the node`]),
      ...(note === null ? [] : [`note  max-disk: ${note}`]),
    ],
    LIMIT_INDENT,
  );
}

async function orderLimits(api: ApiClient, changes: object): Promise<KeptLimits> {
  return (await api.orderNode<{ limits: KeptLimits }>('limits', changes)).limits;
}

async function keepLimits(home: string, changes: ReturnType<typeof parseLimits>): Promise<KeptLimits> {
  const { LimitsFile } = await import('../../node/limits/limits.ts');
  await claimHome(home, 'node');
  const file = await LimitsFile.open(home);
  if (Object.keys(changes).length > 0) await file.change(changes);
  return file.limits;
}
