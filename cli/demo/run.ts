import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Environment } from '../../common/environment.ts';
import { copyCheckpoint } from '../../coordinator/client/copy-checkpoint.ts';
import { type ApiClient, connect, followEvents, isSwarmError, type JobDetail } from '../../index.ts';
import type { Context } from '../context.ts';
import { HelperProcess } from '../daemon/helper-process.ts';
import { cliError } from '../error-codes.ts';
import { submitJob } from '../job/create.ts';
import { openModelBundle } from '../options/model.ts';
import { findBook, prepareData } from './data.ts';
import type { DemoEvent } from './events.ts';
import { demoFolder } from './folder.ts';
import { demoJob } from './job.ts';
import { sampleTexts } from './samples.ts';
import { Tally } from './tally.ts';
import { testLosses } from './test-loss.ts';

/** Names of the first eight nodes. Further nodes get the same names with a number, such as `otter8`. */
const NODE_NAMES = ['otter', 'heron', 'badger', 'lynx', 'magpie', 'newt', 'vole', 'ibex'];
/** Milliseconds in which a daemon must be ready. */
const READY_MS = 30_000;
/** Interval of the progress line, in milliseconds. */
const PROGRESS_MS = 1_000;
const LOOPBACK = '/ip4/127.0.0.1/tcp/0';

export interface DemoOptions {
  nodes: number;
  rounds: number;
}

/**
 * Runs a whole swarm on this machine: starts a coordinator and nodes as processes, creates a job, reports its events and
 * ends with a summary. Stops every process, also after a failure.
 * @throws SwarmError PACKAGE_MISSING, HELPER_FAILED (a process did not start), READY_TIMEOUT, JOB_FAILED
 */
export async function runDemo(
  context: Context,
  { nodes, rounds }: DemoOptions,
  report: (event: DemoEvent) => void,
): Promise<void> {
  const startedAt = context.clock.now();
  const base = join(context.root, 'models', 'nano');
  // Look for the book before anything is created, so that a failure leaves nothing behind.
  findBook(context.cwd);
  const folder = await demoFolder(context.cwd, startedAt);
  const data = await prepareData(join(folder, 'data'), context);
  report({ event: 'start', folder, base, nodes, rounds, chapters: data.chapters });

  const helpers: HelperProcess[] = [];
  // A forced exit or an uncaught exception skips `finally`, so the processes are also killed when this process exits.
  const killAll = (): void => {
    for (const helper of helpers) helper.kill();
  };
  process.on('exit', killAll);
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  try {
    const home = join(folder, 'coordinator');
    const start = (name: string, args: string[], variables: Environment = {}): HelperProcess => {
      const logFile = join(folder, 'logs', `${name}.log`);
      const environment = { ...context.environment, ...variables };
      const helper = new HelperProcess({ name, arguments: args, logFile }, { ...context, environment });
      helpers.push(helper);
      return helper;
    };
    // The model is too small for a GPU, and processes that measure engines at the same time would disturb each other.
    const engine = ['--engine', 'onnx-cpu', '--threads', '1'];
    const common = ['--listen', LOOPBACK, '--no-mdns', ...engine, '--json'];
    const coordinator = start('coordinator', ['coordinator', '--home', home, '--no-publish', ...common]);
    const ready = await coordinator.first('ready', { signal: AbortSignal.any([signal, readyBy()]) });
    report({
      event: 'coordinator-ready',
      peer: String(ready.peerId),
      addresses: ready.addresses as string[],
      api: String(ready.api),
    });
    // From here on, the demo ends if the coordinator's process ends.
    void coordinator.exited.then((end) => over.abort(coordinator.failure(end.code, end.signal)));

    const open = () => connect({ home }, { signal });
    const api = await open();
    const created = await submitJob(context, api, demoJob({ base, data, rounds, nodes }));
    const detail: JobDetail = await api.job(created.job);
    const parameters = detail.manifest.adapter.parameters;
    report({ event: 'job-created', ...created, parameters, baseLoss: detail.baseLoss! });

    for (let i = 0; i < nodes; i++) {
      const name = `${NODE_NAMES[i % NODE_NAMES.length]}${i < NODE_NAMES.length ? '' : i}`;
      const args = ['node', '--home', join(folder, name), '--name', name, '--no-polite', ...common];
      const node = start(name, args, { SWARM_INVITE: created.invite });
      void node.exited.then(() => {
        if (!signal.aborted) report({ event: 'node-lost', node: name, lines: node.lastLines });
      });
    }
    // A swarm continues when it loses a node, but the demo fails if a node never starts.
    const up = helpers
      .slice(1)
      .map((node) => node.first('ready', { signal: AbortSignal.any([signal, readyBy()]) }));
    await Promise.all(up);

    const tally = new Tally();
    const showing = reportProgress(api, created.job, { signal, report });
    for await (const event of followEvents(open, created.job, { signal, now: context.clock.now })) {
      tally.add(event);
      report({ event: 'job-event', ...event });
      // A paused job waits for its operator, and the demo has none.
      if (event.type === 'paused')
        throw cliError(
          'JOB_FAILED',
          `the coordinator paused the demo's job: ${event.reason}`,
          {},
          { next: 'remove the cause that the message names, then run the demo again' },
        );
      if (event.type === 'finished') break;
    }
    const adapter = join(folder, 'adapter');
    await copyCheckpoint(await api.checkpoint(created.job, 'latest'), adapter);
    over.abort(cliError('DEMO_OVER', 'the demo is over'));
    await Promise.all([showing, ...helpers.map((helper) => helper.stop())]);

    // All other processes have ended, so the evaluation gets every core.
    const threads = availableParallelism();
    const bundle = await openModelBundle(context, { model: base, adapter, engine: 'onnx-cpu', threads });
    report({ event: 'sample', ...(await sampleTexts(context, bundle)) });
    report({ event: 'testing' });
    const losses = await testLosses(context, { test: data.test, bundle });
    report({
      event: 'summary',
      peers: tally.peers.size,
      rounds: tally.rounds,
      ...losses,
      bytesPerParameterPerRound: tally.bytesPerParameterPerRound(parameters),
      wallSeconds: (context.clock.now() - startedAt) / 1000,
      adapter,
    });
  } catch (error) {
    context.signal.throwIfAborted();
    // If the coordinator's process has ended, other calls fail too. Only the error about the coordinator tells the user
    // why.
    throw signal.aborted && isSwarmError(signal.reason) ? signal.reason : error;
  } finally {
    if (!over.signal.aborted) over.abort(cliError('DEMO_OVER', 'the demo is over'));
    await Promise.all(helpers.map((helper) => helper.stop()));
    process.off('exit', killAll);
  }
}

function readyBy(): AbortSignal {
  const controller = new AbortController();
  setTimeout(
    () =>
      controller.abort(
        cliError(
          'READY_TIMEOUT',
          `a process of the demo was not ready within ${READY_MS / 1000} s`,
          {},
          {
            next: 'read the logs in the demo\'s folder "logs"; check whether another program uses the processor',
          },
        ),
      ),
    READY_MS,
  ).unref();
  return controller.signal;
}

/** Reports once a second what the nodes are doing, until the signal aborts. */
async function reportProgress(
  api: ApiClient,
  job: string,
  { signal, report }: { signal: AbortSignal; report: (event: DemoEvent) => void },
): Promise<void> {
  while (!signal.aborted) {
    try {
      const [{ phase, round, secondsLeft }, peers] = await Promise.all([api.job(job), api.peers()]);
      const nodes = peers.map(({ name, state, step, steps, tokensPerSecond, bytesSent }) => ({
        name,
        state,
        step,
        steps,
        tokensPerSecond,
        bytesSent,
      }));
      if (!signal.aborted) report({ event: 'progress', phase, round, secondsLeft, nodes });
    } catch {
      // Ignore the error, because progress is optional. The job's events show real failures.
    }
    await sleep(PROGRESS_MS, undefined, { signal }).catch(() => {});
  }
}
