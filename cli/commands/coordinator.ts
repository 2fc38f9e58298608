import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { Environment } from '../../common/environment.ts';
import { resolveHomes } from '../../common/files/user-folders.ts';
import { type Failpoint, type FailpointName, failpoints } from '../../coordinator/failpoints.ts';
import { KEPT_CHECKPOINTS } from '../../coordinator/record/retention.ts';
import { isHttpUrl } from '../../coordinator/webhooks/http-url.ts';
import type { ApiClient, CoordinatorStatus } from '../../index.ts';
import { privateAddressesWarning } from '../../net/addresses.ts';
import { claimHome } from '../../storage/daemon-home.ts';
import { registryFolder, registryOption } from '../adapter/with-registry.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { daemonLog } from '../daemon/log.ts';
import { keepFilesPrivate, pollOwnDaemon, STOP_DEADLINE_MS } from '../daemon/run.ts';
import { usageError } from '../errors.ts';
import {
  announcedAddress,
  bootstrapAddress,
  collect,
  homeOption,
  integer,
  jsonOption,
  listenAddress,
  logLevelOption,
  startAnewOption,
} from '../options/common.ts';
import { engineOption, givenCompute } from '../options/engine.ts';
import { addPublicPageOptions, type PublicPageFlags, publicPageOf } from '../options/public-page.ts';
import { printJson, printLines, printWrapped, timeOfDay } from '../print.ts';
import { EventLines } from '../views/events.ts';
import { addressLines } from '../views/reach.ts';
import { inviteLines } from '../views/status.ts';

interface CoordinatorOptions extends PublicPageFlags {
  home?: string;
  listen?: string[];
  announce?: string[];
  bootstrap?: string[];
  mdns: boolean;
  apiPort: number;
  engine?: string;
  threads: number;
  keepCheckpoints: number;
  audits: boolean;
  publish: boolean;
  startAnew?: boolean;
  registry?: string;
  webhook?: string[];
  webhookAllowPrivate?: boolean;
  logLevel?: string;
  json?: boolean;
}

export function registerCoordinator(program: Command, context: Context): void {
  const command = program
    .command('coordinator')
    .description(
      'run a coordinator, which manages jobs: it opens rounds, merges the updates of the nodes, and commits checkpoints',
    )
    .addOption(homeOption())
    .option(
      '--listen <multiaddr>',
      'address to listen on, such as /ip4/0.0.0.0/tcp/4040; repeatable (default: any free TCP port at the first start, and the same port at later starts)',
      listenAddress,
    )
    .option(
      '--announce <multiaddr>',
      'additional address at which nodes can reach this coordinator, such as the public address of your router; repeatable',
      announcedAddress,
    )
    .option('--bootstrap <multiaddr>', 'address of a peer to stay connected to; repeatable', bootstrapAddress)
    .option('--no-mdns', 'do not announce this coordinator on the local network (mDNS)')
    .option(
      '--api-port <port>',
      'TCP port of the control API on 127.0.0.1; 0 means any free port',
      integer(0, 65535),
      0,
    )
    .addOption(engineOption('engine that evaluates checkpoints: '))
    .option(
      '--threads <n>',
      'CPU threads for evaluating checkpoints and scoring updates',
      integer(1, 1024),
      1,
    )
    .option(
      '--keep-checkpoints <n>',
      'keep the weights of the n newest checkpoints of each job, of its best checkpoint, and of up to 16 others spread evenly over the job; 0 keeps the weights of all checkpoints',
      integer(0),
      KEPT_CHECKPOINTS,
    )
    .option(
      '--no-audits',
      'do not audit updates; an audit trains the interval of a node again, and compares the result with its update',
    )
    .option('--no-publish', 'do not add the checkpoints of finished jobs to the registry of adapters')
    .addOption(registryOption())
    .option(
      '--webhook <url>',
      'send a signed message to this URL when a job ends, pauses itself or bans a node, or its loss rises; repeatable, in addition to the webhooks in the file webhooks.yaml of the home',
      webhookUrl,
    )
    .option(
      '--webhook-allow-private',
      'allow the URLs of --webhook to lead to this machine or to a private network',
    );
  addPublicPageOptions(command)
    .addOption(
      startAnewOption('the database in the home is missing, or older than the folders of the checkpoints'),
    )
    .addOption(logLevelOption())
    .addOption(jsonOption())
    .action((options: CoordinatorOptions) => run(context, options));
}

async function run(context: Context, options: CoordinatorOptions): Promise<void> {
  const home = resolveHomes(options.home, context.environment, context.cwd).coordinator;
  // Only events from this moment on are printed, because an earlier run of the daemon has printed the older ones.
  const since = context.clock.now();
  const publicPage = publicPageOf(options);
  keepFilesPrivate();
  await claimHome(home, 'coordinator');
  const firstTime = !existsSync(join(home, 'identity'));
  const { connect, startCoordinator } = await import('../../index.ts');
  const { logLevel, json } = options;
  const log = daemonLog(context, { home, role: 'coordinator', logLevel, json: json === true });
  const coordinator = await startCoordinator(
    {
      home,
      version: context.version,
      ...(options.listen === undefined ? {} : { listen: options.listen }),
      announce: options.announce ?? [],
      bootstrap: options.bootstrap ?? [],
      mdns: options.mdns,
      port: options.apiPort,
      compute: givenCompute(options, context.environment),
      keepCheckpoints: options.keepCheckpoints,
      audits: options.audits,
      startAnew: options.startAnew === true,
      registry: options.publish ? registryFolder(context, options) : null,
      sharedRegistry: registryFolder(context, options),
      webhooks: (options.webhook ?? []).map((url) => ({
        url,
        ...(options.webhookAllowPrivate && { allowPrivate: true }),
      })),
      publicPage,
    },
    { log, failpoint: armedFailpoint(context.environment) },
  );
  // A request to the control API can also stop the daemon.
  const stopped = new AbortController();
  void coordinator.stopped.then(() => stopped.abort());
  const signal = AbortSignal.any([context.signal, stopped.signal]);
  try {
    const api = await connect({ home });
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
        publicPage: coordinator.publicPage,
      });
    } else {
      const privateOnly = privateAddressesWarning(status.addresses);
      printLines(context, [
        `coordinator ${status.peerId}`,
        ...addressLines(status.addresses),
        `home        ${home}${firstTime ? '  (back up its file "identity": the key that signs your jobs)' : ''}`,
        `api         ${coordinator.url}`,
        ...(coordinator.publicPage === null ? [] : [`public page ${coordinator.publicPage}`]),
        ...inviteLines(status.jobs),
        `ready       ${status.jobs.length === 0 ? `next: ${SWARM} job create FILE.yaml` : 'Ctrl-C stops the coordinator; the next start continues from the saved state'}`,
      ]);
      if (privateOnly !== null) {
        printWrapped(context, [`note        ${privateOnly.message}; ${privateOnly.next}`], LABEL);
      }
    }
    await showJobs(context, api, { json: options.json === true, since, signal });
  } finally {
    await coordinator.stop({ deadlineMs: STOP_DEADLINE_MS });
    if (options.json) printJson(context, { schemaVersion: 1, event: 'stopped' });
    else
      printLines(context, [
        'stopped     all accepted updates are saved; start the coordinator again to continue',
      ]);
  }
}

/** Width of the labels in the lines that the command prints at its start, in columns. */
const LABEL = 12;
/** Width of the time at the beginning of an event's line, in columns. */
const TIME = 10;

interface ShowOptions {
  json: boolean;
  since: number;
  signal: AbortSignal;
}

/** Prints the events of every job, also of jobs that are created later, until the signal aborts. */
async function showJobs(context: Context, api: ApiClient, options: ShowOptions): Promise<void> {
  const followed = new Map<string, Promise<void>>();
  await pollOwnDaemon(options.signal, async () => {
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
      printWrapped(context, [`${timeOfDay(event.at)}  ${name}  ${line}`], TIME);
    }
  } catch (error) {
    // The stream of events breaks when the daemon stops, because the signal aborts then. Any other break is a failure.
    if (!signal.aborted) throw error;
  }
}

/** Parses the URL of a webhook. The option may be repeated. */
function webhookUrl(text: string, earlier: string[] | undefined): string[] {
  if (!isHttpUrl(text)) throw new InvalidArgumentError('Use a URL with http:// or https://.');
  return collect(text, earlier);
}

/**
 * Returns a hook that kills this process at the step that SWARM_FAILPOINT names (coordinator/failpoints.ts), as a power
 * cut would. Tests use the hook, and so do operators who rehearse an outage.
 */
function armedFailpoint(environment: Environment): Failpoint {
  const armed = environment.SWARM_FAILPOINT;
  if (armed !== undefined && !failpoints.includes(armed as FailpointName)) {
    throw usageError(
      `SWARM_FAILPOINT is "${armed}", which is not the name of a failpoint`,
      `use one of ${failpoints.join(', ')}`,
    );
  }
  return (name) => {
    if (name === armed) process.kill(process.pid, 'SIGKILL');
  };
}
