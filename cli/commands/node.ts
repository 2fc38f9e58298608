import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { resolveHomes } from '../../common/files/user-folders.ts';
import type { NodeStatus } from '../../index.ts';
import type { Precision } from '../../lora/engines/precision.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import { parseCompute } from '../../lora/train/compute.ts';
import { otherJobs, readKnownJobs } from '../../node/store/known-jobs.ts';
import { claimHome } from '../../storage/daemon-home.ts';
import { registryFolder } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';
import { daemonLog, logFileOf } from '../daemon/log.ts';
import { leftOutText, withAdviceInUse } from '../daemon/node-home.ts';
import { keepFilesPrivate, pollOwnDaemon, STOP_DEADLINE_MS } from '../daemon/run.ts';
import { stoppedNode } from '../daemon/stopped-node.ts';
import { NodeScreen } from '../node-screen/screen.ts';
import { ScreenWarnings } from '../node-screen/warnings.ts';
import {
  BASE_BITS_HELP,
  baseBits,
  CHECKPOINTING_HELP,
  homeOption,
  integer,
  jsonOption,
  listenAddress,
  logLevelOption,
  precisionOption,
  startAnewOption,
} from '../options/common.ts';
import { enginesOption, givenCompute } from '../options/engine.ts';
import { addLimitOptions, givenLimits, givenPolicy, type LimitOptions } from '../options/limit-flags.ts';
import { looksLikeTarget, wordsOf } from '../options/target.ts';
import { inviteFileOption, readTargets, TARGETS_HELP, type TargetOptions } from '../options/target-input.ts';
import { ProgressLine, printJson, printLines, timeOfDay } from '../print.ts';
import { similarCommands, unknownCommand } from '../program-command.ts';
import { NodeProgress, type ShownStatus, targetLines } from '../views/node.ts';
import { NodeLines, stateKey } from '../views/node-news.ts';
import { addressLines } from '../views/reach.ts';
import { homeFlag, stoppedLines } from '../views/thanks.ts';
import { registerNodeControl } from './node-control.ts';

interface NodeOptions extends TargetOptions, LimitOptions {
  home?: string;
  name?: string;
  listen?: string[];
  mdns: boolean;
  apiPort: number;
  engine?: string;
  threads?: number;
  baseBits: BaseBits;
  precision: Precision;
  gradientCheckpointing?: boolean;
  score?: boolean;
  witness?: boolean;
  once?: boolean;
  startAnew?: boolean;
  logLevel?: string;
  json?: boolean;
}

export function registerNode(program: Command, context: Context): void {
  const node = program
    .command('node')
    .description('lend this machine to one or more jobs: train their adapters as a node of the swarm')
    .argument('[target...]', TARGETS_HELP)
    .addOption(inviteFileOption())
    .addOption(homeOption())
    .option(
      '--job <digest>',
      'digest of the job to join (default: the job that the invite names or, if it names none, the open job with the highest priority)',
    )
    .option('--name <name>', 'name of this node that other peers see (default: made from its peer id)')
    .option(
      '--listen <multiaddr>',
      'address to listen on; repeatable (default: /ip4/0.0.0.0/tcp/0, which means any free TCP port)',
      listenAddress,
    )
    .option('--no-mdns', 'do not look for peers on the local network (mDNS)')
    .option(
      '--api-port <port>',
      'TCP port of the status API and the metrics on 127.0.0.1; 0 means any free port',
      integer(0, 65535),
      0,
    )
    .addOption(enginesOption())
    .option(
      '--threads <n>',
      'CPU threads of the trainer (default: one less than the machine has)',
      integer(1, 1024),
    )
    .option('--gradient-checkpointing', CHECKPOINTING_HELP)
    .option('--no-gradient-checkpointing', 'never use gradient checkpointing, even if memory is short')
    .option('--base-bits <bits>', BASE_BITS_HELP, baseBits, 32)
    .addOption(precisionOption().default('float32'))
    .option(
      '--score',
      'compute scores of updates and evaluate checkpoints for the coordinator; needs an invite with the role operator',
    );
  node.option(
    '--witness',
    'verify each new checkpoint of the jobs, and measure the scores of some merges again, at low priority; the screen and the log report each problem, and its proof is kept in the folder witness/ of the home',
  );
  addLimitOptions(node)
    .option(
      '--once',
      'stop when all jobs of this node have ended (default: keep running and serve their files to other nodes; only a node whose invite names no job joins the next job of the coordinator)',
    )
    .addOption(startAnewOption('the database in the home is missing'))
    .addOption(logLevelOption())
    .addOption(jsonOption())
    .action((target: string[], options: NodeOptions) => {
      const [first] = target;
      // A pasted line can begin with the label of its invite, which may be similar to a command.
      const hasTarget = wordsOf(target.join(' ')).some(looksLikeTarget);
      if (first !== undefined && !hasTarget && similarCommands(node, first).length > 0)
        throw unknownCommand(node, first);
      return run(context, target, options);
    });
  registerNodeControl(node, context);
}

async function run(context: Context, target: readonly string[], options: NodeOptions): Promise<void> {
  const home = resolveHomes(options.home, context.environment, context.cwd).node;
  const flag = homeFlag(context, home);
  const targets = await readTargets(context, target, options, { home, homeFlag: flag });
  const leftOut = otherJobs(await readKnownJobs(home), targets);
  const compute = givenCompute(options, context.environment);
  // Refuses a wrong option before the home is created.
  parseCompute(compute);
  keepFilesPrivate();
  await claimHome(home, 'node');
  const firstTime = !existsSync(join(home, 'identity'));
  const [{ connect, startNode }, { CONSENT_NOTICE }] = await Promise.all([
    import('../../index.ts'),
    import('../../node/daemon/consent.ts'),
  ]);
  // In a terminal, a screen shows the warnings. Raw log lines would run through it.
  const warnings = new ScreenWarnings();
  const hasScreen = !options.json && context.stderr.isTTY && context.stdout.isTTY;
  const log = daemonLog(context, {
    home,
    role: 'node',
    logLevel: options.logLevel,
    json: options.json === true,
    ...(hasScreen && { screen: warnings }),
  });
  const node = await startNode(
    {
      home,
      targets,
      ...(options.name === undefined ? {} : { name: options.name }),
      version: context.version,
      ...(options.listen === undefined ? {} : { listen: options.listen }),
      mdns: options.mdns,
      compute,
      scores: options.score ?? false,
      witness: options.witness ?? false,
      startAnew: options.startAnew === true,
      sharedRegistry: registryFolder(context),
      port: options.apiPort,
      policy: givenPolicy(options),
      polite: options.polite ?? 'auto',
      limits: givenLimits(options),
    },
    { log },
  ).catch((error: unknown) => {
    throw withAdviceInUse(error, flag);
  });
  if (leftOut.length > 0) log.warn({ reason: leftOutText(leftOut, flag) }, 'jobs-left-out');
  const ended = new AbortController();
  void node.stopped.then(() => ended.abort());
  const signal = AbortSignal.any([context.signal, ended.signal]);
  const progress = new ProgressLine(context);
  /** Digests of the jobs of this run. */
  const joined = new Set<string>();
  const screen = new NodeScreen(context, {
    ...{ warnings, logFile: logFileOf(home, 'node'), homeFlag: flag },
  });
  try {
    // This client gets no signal, because the status of the daemon is also needed while the daemon drains.
    const api = await connect({ home }, { role: 'node' });
    const { name, peerId, addresses } = await api.status<NodeStatus>();
    if (options.json) {
      printJson(context, {
        schemaVersion: 1,
        event: 'ready',
        role: 'node',
        peerId,
        name,
        addresses,
        api: node.url,
      });
    } else {
      printLines(context, [
        ...(firstTime ? [...CONSENT_NOTICE.split('\n'), ''] : []),
        `node        ${name}  ${peerId}`,
        ...addressLines(addresses),
        ...targetLines(targets),
        `home        ${home}${firstTime ? '  (back up its file "identity": the key of this node)' : ''}`,
        `api         ${node.url}`,
        'ready       Ctrl-C leaves the round and stops this node',
        ...(hasScreen ? [''] : []),
      ]);
    }
    const lines = new NodeLines({ homeFlag: flag });
    const nodeProgress = new NodeProgress();
    let last = '';
    await pollOwnDaemon(signal, async () => {
      const now = await api.status<NodeStatus>();
      const shown: ShownStatus = { ...now, stopsAfterJobs: options.once === true };
      for (const { job } of now.jobs) if (job !== null) joined.add(job.job);
      if (options.once && now.jobs.every(({ done, shutOut }) => done || shutOut !== null)) ended.abort();
      if (hasScreen) {
        // After Ctrl-C, a message may already be below the screen, so the screen is not drawn again.
        if (!context.signal.aborted) screen.show(shown);
        return;
      }
      if (!options.json) {
        const news = lines.next(shown).map((line) => `${timeOfDay(context.clock.now())}  ${line}`);
        if (news.length > 0) progress.clear();
        printLines(context, news);
        const doing = nodeProgress.line(now, context.clock.now());
        // If the output is not a terminal, each step would print a new line. The command then shows only downloads,
        // because a download can take an hour.
        if (doing === null) progress.clear();
        else if (context.stderr.isTTY || isDownloading(now)) progress.update(doing);
        return;
      }
      const key = stateKey(now);
      if (key !== last) printJson(context, { event: 'state', ...now });
      last = key;
    });
  } catch (error) {
    await node.stop({ deadlineMs: STOP_DEADLINE_MS });
    // If the coordinator shuts out the node, the API closes before the node has stopped, and the poll above fails. The
    // user needs the reason in `stopped`, not the failure of the poll.
    throw (await node.stopped) ?? error;
  } finally {
    progress.clear();
    await node.stop({ deadlineMs: STOP_DEADLINE_MS });
    if (options.json) printJson(context, { schemaVersion: 1, event: 'stopped' });
    else printLines(context, stoppedLines(await stoppedNode(home), joined));
  }
  const refusal = await node.stopped;
  if (refusal !== null) throw refusal;
}

function isDownloading({ jobs }: NodeStatus): boolean {
  return jobs.some(({ download }) => download !== null);
}
