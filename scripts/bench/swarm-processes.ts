/** A coordinator and nodes that run as processes on loopback, for benchmarks. */
import { join } from 'node:path';
import { HelperProcess } from '../../cli/daemon/helper-process.ts';
import type { DemoData } from '../../cli/demo/data.ts';
import { submitJob } from '../../cli/job/create.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { followEvents } from '../../coordinator/client/follow.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { groupCpuMilliseconds } from './cpu-time.ts';

const ROOT = join(import.meta.dirname, '../..');
/** The base of all jobs. */
export const BASE = join(ROOT, 'models', 'nano');
export const TRAINING = { learningRate: 1e-3, batchSize: 8, microBatch: 8, sequenceLength: 128 };
/** Options of all daemons. Each trainer has one thread. */
const DAEMON = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--threads', '1', '--json'];

/** A job of a benchmark. */
export interface BenchJob {
  readonly name: string;
  readonly rank: number;
  readonly rounds: number;
  /** Number of optimiser steps of a node in a round. */
  readonly localSteps: number;
  /** Number of nodes. Every round waits for all of them. */
  readonly nodes: number;
  /** Name of another job that must end before this job opens; null if this job opens at once. */
  readonly after: string | null;
}

export class SwarmProcesses {
  readonly #folder: string;
  readonly #signal: AbortSignal;
  readonly #home: string;
  readonly #helpers: HelperProcess[] = [];

  private constructor(folder: string, signal: AbortSignal) {
    this.#folder = folder;
    this.#signal = signal;
    this.#home = join(folder, 'coordinator');
  }

  /** Starts a coordinator, runs `measure`, and stops all processes. */
  static async run<T>(
    folder: string,
    signal: AbortSignal,
    measure: (swarm: SwarmProcesses) => Promise<T>,
  ): Promise<T> {
    const swarm = new SwarmProcesses(folder, signal);
    try {
      await swarm.#start('coordinator', ['coordinator', '--home', swarm.#home, '--no-publish']);
      return await measure(swarm);
    } finally {
      await Promise.all(swarm.#helpers.map((helper) => helper.stop()));
    }
  }

  async createJob(
    data: DemoData,
    { name, rank, rounds, localSteps, nodes, after }: BenchJob,
  ): Promise<{ job: string; invite: string }> {
    const spec = {
      name,
      base: BASE,
      data: { train: [data.train], heldOut: [data.heldOut] },
      lora: loraConfig({ rank, alpha: 2 * rank }),
      training: TRAINING,
      rounds: { count: rounds, localSteps, minPeers: nodes, quorum: 1 },
    };
    return submitJob(this.#context, await this.#open(), spec, after === null ? {} : { after });
  }

  async startNodes(count: number, invites: readonly string[]): Promise<void> {
    const start = (_: unknown, i: number): Promise<void> =>
      this.#start(`node-${i}`, [
        'node',
        '--no-polite',
        ...invites,
        '--home',
        join(this.#folder, `node-${i}`),
      ]);
    await Promise.all(Array.from({ length: count }, start));
  }

  /** Yields the events of a job. A benchmark has no operator who would resume a paused job, so a pause is an error. */
  async *events(job: string): AsyncGenerator<JobEvent> {
    const options = { signal: this.#signal, now: systemClock.now };
    for await (const event of followEvents(() => this.#open(), job, options)) {
      if (event.type === 'paused') throw new Error(`a job of the benchmark has paused: ${event.reason}`);
      yield event;
    }
  }

  /** Returns the processor time of all processes in milliseconds; null if the system does not report it. */
  processor(): number | null {
    return groupCpuMilliseconds(this.#helpers.map(({ pid }) => pid!));
  }

  get #context() {
    return {
      self: { node: process.execPath, script: join(ROOT, 'cli', 'swarm.js') },
      cwd: ROOT,
      environment: process.env,
      clock: systemClock,
      signal: this.#signal,
      stderr: { write: () => {}, isTTY: false, columns: 80, rows: 24, color: false },
    };
  }

  #open(): Promise<ApiClient> {
    return ApiClient.open(this.#home, 'coordinator', { signal: this.#signal });
  }

  async #start(label: string, args: readonly string[]): Promise<void> {
    const helper = new HelperProcess(
      { name: label, arguments: [...args, ...DAEMON], logFile: join(this.#folder, `${label}.log`) },
      this.#context,
    );
    this.#helpers.push(helper);
    await helper.first('ready', { signal: this.#signal });
  }
}
