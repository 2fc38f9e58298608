import { join } from 'node:path';
import { HelperProcess } from '../../cli/daemon/helper-process.ts';
import type { DemoData } from '../../cli/demo/data.ts';
import { submitJob } from '../../cli/job/create.ts';
import { systemClock } from '../../common/system-clock.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { followEvents } from '../../coordinator/client/follow.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { groupCpuMilliseconds } from './cpu-time.ts';

const ROOT = join(import.meta.dirname, '../..');
const BASE = join(ROOT, 'models', 'nano');
/** Number of nodes. Each node takes part in both jobs, and its trainer has one thread. */
export const NODES = 4;
const NAMES = ['first', 'second'] as const;
/**
 * The jobs differ in their rank, so that a node compiles its graphs again whenever it switches to the other
 * job.
 */
const RANKS = [16, 8] as const;
const TRAINING = { learningRate: 1e-3, batchSize: 8, microBatch: 8, sequenceLength: 128 };

export interface JobsSize {
  /** Rounds of each job. */
  readonly rounds: number;
  /** Number of optimiser steps of a node in a round. */
  readonly localSteps: number;
}

export interface JobsMeasured {
  /** Seconds from the opening of the first round to the end of both jobs. */
  readonly seconds: number;
  /** Processor time of all processes in seconds; null if the system does not report it. */
  readonly processor: number | null;
  /** Held-out loss of each job at its end, in nats per token. */
  readonly losses: readonly number[];
}

/**
 * Runs two jobs of one coordinator on nodes that are in both jobs.
 * @param atOnce whether both jobs run at the same time, or the second after the first
 */
export async function measureJobs(
  folder: string,
  data: DemoData,
  { rounds, localSteps }: JobsSize,
  atOnce: boolean,
  signal: AbortSignal,
): Promise<JobsMeasured> {
  const context = {
    self: { node: process.execPath, script: join(ROOT, 'cli', 'swarm.js') },
    cwd: ROOT,
    environment: process.env,
    clock: systemClock,
    signal,
    stderr: { write: () => {}, isTTY: false, columns: 80, rows: 24, color: false },
  };
  const home = join(folder, 'coordinator');
  const common = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--threads', '1', '--json'];
  const helpers: HelperProcess[] = [];
  const start = async (label: string, args: string[]): Promise<void> => {
    const helper = new HelperProcess(
      { name: label, arguments: [...args, ...common], logFile: join(folder, `${label}.log`) },
      context,
    );
    helpers.push(helper);
    await helper.first('ready', { signal });
  };
  try {
    await start('coordinator', ['coordinator', '--home', home, '--no-publish']);
    const open = () => ApiClient.open(home, 'coordinator', { signal });
    const jobs: { job: string; invite: string }[] = [];
    for (const [i, name] of NAMES.entries()) {
      const spec = {
        name,
        base: BASE,
        data: { train: [data.train], heldOut: [data.heldOut] },
        lora: loraConfig({ rank: RANKS[i]!, alpha: 2 * RANKS[i]! }),
        training: TRAINING,
        rounds: { count: rounds, localSteps, minPeers: NODES, quorum: 1 },
      };
      const place = atOnce || i === 0 ? {} : { after: NAMES[0] };
      jobs.push(await submitJob(context, await open(), spec, place));
    }
    const invites = jobs.map(({ invite }) => invite);
    await Promise.all(
      Array.from({ length: NODES }, (_, i) =>
        start(`node-${i}`, ['node', '--no-polite', ...invites, '--home', join(folder, `node-${i}`)]),
      ),
    );
    let first = Number.POSITIVE_INFINITY;
    let last = 0;
    let before: number | null = null;
    const processor = () => groupCpuMilliseconds(helpers.map(({ pid }) => pid!));
    const losses = await Promise.all(
      jobs.map(async ({ job }) => {
        for await (const event of followEvents(open, job, { signal, now: systemClock.now })) {
          // The benchmark has no operator who would resume a paused job.
          if (event.type === 'paused') throw new Error(`a job of the benchmark has paused: ${event.reason}`);
          if (event.type === 'round-opened' && event.at < first) {
            first = event.at;
            before = processor();
          }
          if (event.type !== 'finished') continue;
          last = Math.max(last, event.at);
          return event.heldOutLoss ?? Number.NaN;
        }
        throw new Error('the events of a job ended before the job');
      }),
    );
    const after = processor();
    return {
      seconds: (last - first) / 1000,
      processor: before === null || after === null ? null : (after - before) / 1000,
      losses,
    };
  } finally {
    await Promise.all(helpers.map((helper) => helper.stop()));
  }
}
