import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { CoordinatorStatus } from '../../coordinator/api/types.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { type Failpoint, type FailpointName, failpoints } from '../../coordinator/failpoints.ts';
import { KEPT_CHECKPOINTS } from '../../coordinator/record/retention.ts';
import type { EngineChoice } from '../../lora/engines/names.ts';
import { claimHome } from '../../storage/daemon-home.ts';
import type { Context } from '../context.ts';
import { daemonLog } from '../daemon-log.ts';
import { pollUntilAborted, STOP_DEADLINE_MS } from '../daemon-run.ts';
import { engineChoice, engineOption } from '../engine.ts';
import { usageError } from '../errors.ts';
import { type Environment, resolveHomes } from '../homes.ts';
import { homeOption, integer, jsonOption, listenAddress, logLevelOption, peerAddress } from '../options.ts';
import { printJson, printLines } from '../print.ts';
import { EventLines } from '../views/events.ts';

interface CoordinatorOptions {
  home?: string;
  listen?: string[];
  bootstrap?: string[];
  mdns: boolean;
  apiPort: number;
  engine?: EngineChoice;
  threads: number;
  keepCheckpoints: number;
  logLevel?: string;
  json?: boolean;
}

export function registerCoordinator(program: Command, context: Context): void {
  program
    .command('coordinator')
    .description('run a coordinator: it opens rounds, judges and merges updates, and commits checkpoints')
    .addOption(homeOption())
    .option('--listen <multiaddr>', 'may be repeated (default: the port of the last start)', listenAddress)
    .option('--bootstrap <multiaddr>', 'a peer to stay connected to; may be repeated', peerAddress)
    .option('--no-mdns', 'do not show up in the local network')
    .option('--api-port <port>', 'port of the control API on 127.0.0.1; 0: any', integer(0, 65535), 0)
    .addOption(engineOption('what evaluates checkpoints: '))
    .option('--threads <n>', 'threads of the evaluation', integer(1, 1024), 1)
    .option(
      '--keep-checkpoints <n>',
      'newest checkpoints of a job that keep their weights, besides the best and 16 spread over the job; 0: all',
      integer(0),
      KEPT_CHECKPOINTS,
    )
    .addOption(logLevelOption())
    .addOption(jsonOption())
    .action((options: CoordinatorOptions) => run(context, options));
}

async function run(context: Context, options: CoordinatorOptions): Promise<void> {
  const home = resolveHomes(options.home, context.environment, context.cwd).coordinator;
  // Events of the time before this start are history, to be remembered but not to be told again.
  const since = context.clock.now();
  await claimHome(home, 'coordinator');
  const firstTime = !existsSync(join(home, 'identity'));
  const { startCoordinator } = await import('../../coordinator/daemon.ts');
  const log = daemonLog(context, { home, role: 'coordinator', logLevel: options.logLevel });
  const coordinator = await startCoordinator(
    {
      home,
      version: context.version,
      ...(options.listen === undefined ? {} : { listen: options.listen }),
      bootstrap: options.bootstrap ?? [],
      mdns: options.mdns,
      port: options.apiPort,
      engine: engineChoice(options.engine, context.environment),
      threads: options.threads,
      keepCheckpoints: options.keepCheckpoints,
    },
    { log, failpoint: armedFailpoint(context.environment) },
  );
  // Ended by us, or over the API.
  const over = new AbortController();
  void coordinator.stopped.then(() => over.abort());
  const signal = AbortSignal.any([context.signal, over.signal]);
  try {
    const api = await ApiClient.open(home, 'coordinator', { signal: new AbortController().signal });
    const status = await api.status();
    if (options.json) {
      const { peerId, addresses } = status;
      printJson(context, {
        schemaVersion: 1,
        event: 'ready',
        role: 'coordinator',
        peerId,
        addresses,
        api: coordinator.url,
      });
    } else {
      printLines(context, [
        `coordinator ${status.peerId}`,
        ...status.addresses.map((address, i) => `${i === 0 ? 'addresses  ' : '           '} ${address}`),
        ...reachNote(status.addresses),
        `home        ${home}${firstTime ? '  (back up its file "identity": jobs are signed with it)' : ''}`,
        `api         ${coordinator.url}`,
        ...status.jobs.map((job) => `invite      ${job.name}: swarm node ${job.invite}`),
        `ready       ${status.jobs.length === 0 ? 'next: swarm job create FILE.yaml' : 'Ctrl-C stops; what is durable is resumed'}`,
      ]);
    }
    await showJobs(context, api, { json: options.json === true, since, signal });
  } finally {
    await coordinator.stop({ deadlineMs: STOP_DEADLINE_MS });
    if (options.json) printJson(context, { schemaVersion: 1, event: 'stopped' });
    else printLines(context, ['stopped     all that was accepted is durable; start again to go on']);
  }
}

interface ShowOptions {
  json: boolean;
  since: number;
  signal: AbortSignal;
}

/** Prints what happens in every job, also in those that are created later, until the signal aborts. */
async function showJobs(context: Context, api: ApiClient, options: ShowOptions): Promise<void> {
  const followed = new Map<string, Promise<void>>();
  await pollUntilAborted(options.signal, async () => {
    const { jobs } = await api.status();
    for (const job of jobs) {
      if (!followed.has(job.job)) followed.set(job.job, showJob(context, api, job, options));
    }
  });
  await Promise.all(followed.values());
}

async function showJob(
  context: Context,
  api: ApiClient,
  { job, name, baseLoss }: CoordinatorStatus['jobs'][number],
  { json, since, signal }: ShowOptions,
): Promise<void> {
  const lines = new EventLines({ baseLoss });
  try {
    for await (const event of api.events(job, { follow: true, signal })) {
      if (json) {
        if (event.at >= since) printJson(context, { schemaVersion: 1, event: 'job-event', ...event });
        continue;
      }
      const line = lines.line(event);
      if (line === null || event.at < since) continue;
      printLines(context, [`${new Date(event.at).toTimeString().slice(0, 8)}  ${name}  ${line}`]);
    }
  } catch (error) {
    // The stream ends with the daemon, and with the signal; anything else is a fault.
    if (!signal.aborted) throw error;
  }
}

/** Nobody else reaches a coordinator that listens on loopback alone, and its invites say nothing of that. */
function reachNote(addresses: readonly string[]): string[] {
  const here = addresses.every((address) => /^\/ip4\/127\.|^\/ip6\/::1\//.test(address));
  return here ? ['            (this machine only: for others, --listen /ip4/0.0.0.0/tcp/4040)'] : [];
}

/**
 * SWARM_FAILPOINT names a durable step at which the process kills itself, as a power cut would (coordinator/failpoints.ts).
 * Tests and rehearsals of an outage use it.
 */
function armedFailpoint(environment: Environment): Failpoint {
  const armed = environment.SWARM_FAILPOINT;
  if (armed !== undefined && !failpoints.includes(armed as FailpointName)) {
    throw usageError(`SWARM_FAILPOINT is "${armed}"`, `use one of ${failpoints.join(', ')}`);
  }
  return (name) => {
    if (name === armed) process.kill(process.pid, 'SIGKILL');
  };
}
