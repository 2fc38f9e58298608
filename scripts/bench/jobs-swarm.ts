import type { DemoData } from '../../cli/demo/data.ts';
import { SwarmProcesses } from './swarm-processes.ts';

/** Number of nodes. Each node takes part in both jobs, and its trainer has one thread. */
export const NODES = 4;
const NAMES = ['first', 'second'] as const;
/**
 * The jobs differ in their rank, so that a node compiles its graphs again whenever it switches to the other
 * job.
 */
const RANKS = [16, 8] as const;

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
  return SwarmProcesses.run(folder, signal, async (swarm) => {
    const jobs: { job: string; invite: string }[] = [];
    for (const [i, name] of NAMES.entries()) {
      const after = atOnce || i === 0 ? null : NAMES[0];
      jobs.push(
        await swarm.createJob(data, { name, rank: RANKS[i]!, rounds, localSteps, nodes: NODES, after }),
      );
    }
    await swarm.startNodes(
      NODES,
      jobs.map(({ invite }) => invite),
    );
    let first = Number.POSITIVE_INFINITY;
    let last = 0;
    let before: number | null = null;
    const losses = await Promise.all(
      jobs.map(async ({ job }) => {
        for await (const event of swarm.events(job)) {
          if (event.type === 'round-opened' && event.at < first) {
            first = event.at;
            before = swarm.processor();
          }
          if (event.type !== 'finished') continue;
          last = Math.max(last, event.at);
          return event.heldOutLoss ?? Number.NaN;
        }
        throw new Error('the events of a job ended before the job');
      }),
    );
    const after = swarm.processor();
    return {
      seconds: (last - first) / 1000,
      processor: before === null || after === null ? null : (after - before) / 1000,
      losses,
    };
  });
}
