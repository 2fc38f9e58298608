import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSwarmError } from '../../common/errors.ts';
import type { JobDetail } from '../../coordinator/api/types.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { followJob } from '../../coordinator/client/follow.ts';
import { copyCheckpoint } from '../../coordinator/record/copy-checkpoint.ts';
import type { Context } from '../context.ts';
import { submitJob } from '../create-job.ts';
import { cliError } from '../error-codes.ts';
import { HelperProcess } from '../helper-process.ts';
import { loadSubject } from '../model-options.ts';
import { findBook, prepareData } from './data.ts';
import type { DemoEvent } from './events.ts';
import { demoFolder } from './folder.ts';
import { demoJob } from './job.ts';
import { sampleTexts } from './samples.ts';
import { Tally } from './tally.ts';
import { testLosses } from './test-loss.ts';

/** Names of the demo's nodes; with more nodes they get numbers. */
const NODE_NAMES = ['otter', 'heron', 'badger', 'lynx', 'magpie', 'newt', 'vole', 'ibex'];
/** A daemon that is not ready by then has a fault that waiting does not heal. */
const READY_MS = 30_000;
/** How often the nodes' progress is asked for. */
const PROGRESS_MS = 1_000;
const LOOPBACK = '/ip4/127.0.0.1/tcp/0';

export interface DemoOptions {
  nodes: number;
  rounds: number;
}

/**
 * A whole swarm on this machine: starts a coordinator and nodes as processes of their own, creates a job, tells
 * what happens and ends with a summary. Whatever happens, no process is left behind.
 * @throws SwarmError PACKAGE_MISSING, HELPER_FAILED (a process did not start), JOB_FAILED
 */
export async function runDemo(
  context: Context,
  { nodes, rounds }: DemoOptions,
  tell: (event: DemoEvent) => void,
): Promise<void> {
  const startedAt = context.clock.now();
  const base = join(context.root, 'models', 'nano');
  // Said before anything is made.
  findBook(context.cwd);
  const folder = await demoFolder(context.cwd, startedAt);
  const data = await prepareData(join(folder, 'data'), context);
  tell({ event: 'start', folder, base, nodes, rounds, chapters: data.chapters });

  const helpers: HelperProcess[] = [];
  // Reached also by ways that skip `finally`: a forced exit, an exception elsewhere.
  const killAll = (): void => {
    for (const helper of helpers) helper.kill();
  };
  process.on('exit', killAll);
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  try {
    const home = join(folder, 'coordinator');
    const start = (name: string, args: string[]): HelperProcess => {
      const logFile = join(folder, 'logs', `${name}.log`);
      const helper = new HelperProcess({ name, arguments: args, logFile }, context);
      helpers.push(helper);
      return helper;
    };
    // The model is too small for a GPU, and five processes that measure at once would measure each other.
    const engine = ['--engine', 'onnx-cpu', '--threads', '1'];
    const common = ['--listen', LOOPBACK, '--no-mdns', ...engine, '--json'];
    const coordinator = start('coordinator', ['coordinator', '--home', home, ...common]);
    const ready = await coordinator.first('ready', { signal: AbortSignal.any([signal, readyBy()]) });
    tell({
      event: 'coordinator-ready',
      peer: String(ready.peerId),
      addresses: ready.addresses as string[],
      api: String(ready.api),
    });
    // From here on the death of the coordinator ends the demo.
    void coordinator.exited.then((end) => over.abort(coordinator.failure(end.code, end.signal)));

    const open = () => ApiClient.open(home, 'coordinator', { signal });
    const api = await open();
    const created = await submitJob(context, api, demoJob({ base, data, rounds, nodes }));
    const detail: JobDetail = await api.job(created.job);
    const parameters = detail.manifest.adapter.parameters;
    tell({ event: 'job-created', ...created, parameters, baseLoss: detail.baseLoss! });

    for (let i = 0; i < nodes; i++) {
      const name = `${NODE_NAMES[i % NODE_NAMES.length]}${i < NODE_NAMES.length ? '' : i}`;
      const args = ['node', created.invite, '--home', join(folder, name), '--name', name, ...common];
      const node = start(name, args);
      void node.exited.then(() => {
        if (!signal.aborted) tell({ event: 'node-lost', node: name, lines: node.lastLines });
      });
    }
    // A swarm goes on without a node, but a node that never gets up is a fault to be shown.
    const up = helpers
      .slice(1)
      .map((node) => node.first('ready', { signal: AbortSignal.any([signal, readyBy()]) }));
    await Promise.all(up);

    const tally = new Tally();
    const watching = watchProgress(api, created.job, { signal, tell });
    for await (const event of followJob(open, created.job, { signal, now: context.clock.now })) {
      tally.add(event);
      tell({ event: 'job-event', ...event });
      if (event.type === 'failed') throw cliError('JOB_FAILED', `the demo's job failed: ${event.reason}`);
      // Nobody is there to resume it.
      if (event.type === 'paused')
        throw cliError('JOB_FAILED', `the demo's job has paused itself: ${event.reason}`);
      if (event.type === 'finished') break;
    }
    const adapter = join(folder, 'adapter');
    await copyCheckpoint(await api.checkpoint(created.job, 'latest'), adapter);
    over.abort(cliError('DEMO_OVER', 'the demo is over'));
    await Promise.all([watching, ...helpers.map((helper) => helper.stop())]);

    // Nothing else of ours runs any more.
    const threads = availableParallelism();
    const subject = await loadSubject(context, { model: base, adapter, engine: 'onnx-cpu', threads });
    tell({ event: 'sample', ...(await sampleTexts(context, subject)) });
    const losses = await testLosses(context, { test: data.test, subject });
    tell({
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
    // What followed from the coordinator's death is told as its death.
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
          { next: 'look into the folder "logs" of the demo; is another program using the processor?' },
        ),
      ),
    READY_MS,
  ).unref();
  return controller.signal;
}

/** Tells once a second what the nodes are doing, until the signal aborts. */
async function watchProgress(
  api: ApiClient,
  job: string,
  { signal, tell }: { signal: AbortSignal; tell: (event: DemoEvent) => void },
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
      if (!signal.aborted) tell({ event: 'progress', phase, round, secondsLeft, nodes });
    } catch {
      // Progress is a courtesy; a real fault shows in the job's events.
    }
    await sleep(PROGRESS_MS, undefined, { signal }).catch(() => {});
  }
}
