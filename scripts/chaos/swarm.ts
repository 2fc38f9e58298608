import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../common/errors.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { makeTinyModel, TINY_TEXT } from '../../test/utils/models/tiny-model.ts';
import { Daemon } from './daemon.ts';
import { freePort, Link } from './link.ts';

/** Maximum time until a daemon answers, in milliseconds. Two cores start twelve nodes in half of this time. */
export const PATIENCE_MS = 90_000;
const POLL_MS = 250;
/** Number of nodes that start at the same time. */
const STARTS = 4;
/**
 * Number of checkpoints after which the job would end. The job never reaches it, because the run sets a lower
 * number after the last fault.
 */
const UNLIMITED = 100_000;
const TRAINING_ROWS = 1200;
const HELD_OUT_ROWS = 40;

export interface SwarmOptions {
  readonly folder: string;
  readonly nodes: number;
  readonly seed: number;
  /** Number of optimiser steps that a node makes in a round. */
  readonly localSteps: number;
}

/** One daemon with its home, across its restarts. */
export class Machine {
  readonly name: string;
  readonly home: string;
  readonly clockFile: string;
  daemon: Daemon | null = null;
  readonly #arguments: () => string[];

  constructor(name: string, folder: string, args: () => string[]) {
    this.name = name;
    this.home = join(folder, name);
    this.clockFile = join(folder, `${name}.clock`);
    this.#arguments = args;
  }

  get isRunning(): boolean {
    return this.daemon !== null && this.daemon.ending === null;
  }

  start(environment: Record<string, string> = {}): Daemon {
    this.daemon = new Daemon([...this.#arguments(), '--home', this.home, '--no-mdns', '--json'], {
      clockFile: this.clockFile,
      ...environment,
    });
    return this.daemon;
  }

  async kill(): Promise<void> {
    if (this.isRunning) await this.daemon!.kill();
  }
}

/** A coordinator with one job, and its nodes: real processes on this machine. */
export class ChaosSwarm {
  readonly options: SwarmOptions;
  readonly coordinator: Machine;
  readonly nodes: Machine[];
  readonly link: Link;
  /** Events of the job, in order. */
  readonly events: JobEvent[] = [];
  job = '';
  #invite = '';
  /** Sequence number of the newest event. */
  #after = 0;
  /** All collected events as JSON. An event that is read again is not collected again. */
  readonly #seen = new Set<string>();
  readonly #done = new AbortController();

  private constructor(options: SwarmOptions, link: Link, port: number) {
    const { folder } = options;
    this.options = options;
    this.link = link;
    // The coordinator announces the address of the link, so that nodes do not bypass the link.
    this.coordinator = new Machine('coordinator', folder, () => [
      'coordinator',
      '--listen',
      `/ip4/127.0.0.1/tcp/${port}`,
      '--announce',
      `/ip4/127.0.0.1/tcp/${link.port}`,
      // The registry belongs to the user, and not to this run.
      '--no-publish',
    ]);
    this.nodes = Array.from(
      { length: options.nodes },
      (_, i) =>
        new Machine(`node-${i + 1}`, folder, () => [
          'node',
          this.#invite,
          // The nodes share this machine. A polite node would pause for the other nodes.
          '--no-polite',
          '--listen',
          '/ip4/127.0.0.1/tcp/0',
          '--name',
          `node-${i + 1}`,
          '--threads',
          '1',
        ]),
    );
  }

  get machines(): Machine[] {
    return [this.coordinator, ...this.nodes];
  }

  get finished(): boolean {
    return this.events.some(({ type }) => type === 'finished');
  }

  /**
   * Makes the collection start again from the first event. A restored coordinator gives its new events numbers that
   * older events had already, so they would be missed.
   */
  replayEvents(): void {
    this.#after = 0;
  }

  /** Starts the coordinator, the job and the nodes. Returns when all of them run. */
  static async start(options: SwarmOptions): Promise<ChaosSwarm> {
    await mkdir(options.folder, { recursive: true });
    const port = await freePort();
    const swarm = new ChaosSwarm(options, await Link.create(port), port);
    if (!(await swarm.coordinator.start().ready)) throw new Error(swarm.coordinator.daemon!.stderr);
    await swarm.#createJob();
    void swarm.#collect();
    await swarm.startNodes(swarm.nodes);
    return swarm;
  }

  /** Starts nodes, a few at a time, and waits until each is ready or has ended. */
  async startNodes(nodes: readonly Machine[]): Promise<void> {
    const left = nodes.filter((node) => !node.isRunning);
    while (left.length > 0) {
      const group = left.splice(0, STARTS);
      await Promise.race([Promise.all(group.map((node) => node.start().ready)), sleep(PATIENCE_MS)]);
    }
  }

  api({ limitMs = 10_000 } = {}): Promise<ApiClient> {
    return ApiClient.open(this.coordinator.home, 'coordinator', { signal: AbortSignal.timeout(limitMs) });
  }

  /** Waits until `condition` holds. @returns false if that takes more than `ms` milliseconds */
  async until(condition: () => boolean | Promise<boolean>, ms: number): Promise<boolean> {
    const end = performance.now() + ms;
    while (!(await condition())) {
      if (performance.now() > end) return false;
      await sleep(POLL_MS);
    }
    return true;
  }

  /** Waits until the coordinator's API answers. */
  answers(): Promise<boolean> {
    const ask = async (): Promise<boolean> => {
      try {
        await (await this.api()).status();
        return true;
      } catch {
        // The API does not answer yet, so `until` asks again.
        return false;
      }
    };
    return this.until(ask, PATIENCE_MS);
  }

  /** Returns whether the job makes a checkpoint or ends within PATIENCE_MS. */
  progresses(): Promise<boolean> {
    const from = this.events.length;
    const made = (): boolean =>
      this.finished || this.events.slice(from).some(({ type }) => type === 'checkpoint');
    return this.until(made, PATIENCE_MS);
  }

  /** Returns the phase of the job and the reason for this phase. */
  async reason(): Promise<string> {
    try {
      const { phase, reason } = await (await this.api()).job(this.job);
      return `${phase}: ${reason}`;
    } catch (error) {
      return messageOf(error);
    }
  }

  async stop(): Promise<void> {
    this.#done.abort();
    for (const machine of this.machines) {
      await machine.daemon?.send('SIGCONT');
      await machine.kill();
    }
    this.link.close();
  }

  async #createJob(): Promise<void> {
    const { folder, seed, localSteps } = this.options;
    const base = await makeTinyModel(join(folder, 'model'));
    const train = join(folder, 'train.jsonl');
    const heldOut = join(folder, 'held-out.jsonl');
    await writeFile(train, jsonl(0, TRAINING_ROWS));
    await writeFile(heldOut, jsonl(TRAINING_ROWS, HELD_OUT_ROWS));
    // On a busy machine, the first evaluation of the job takes longer than other calls.
    const api = await this.api({ limitMs: PATIENCE_MS });
    for await (const line of api.createJob({
      name: 'chaos',
      base,
      seed,
      data: { train: [train], heldOut: [heldOut] },
      lora: { rank: 4, alpha: 8 },
      training: { sequenceLength: 32, batchSize: 4, microBatch: 4, learningRate: 4e-3, warmupSteps: 5 },
      rounds: { count: UNLIMITED, localSteps, minPeers: 2, maxSeconds: 40 },
      // This tolerance admits almost every merge. A normal gate would also refuse some merges by chance.
      acceptance: { tolerance: 1 },
    })) {
      if (line.event === 'error') throw new Error(`${line.code}: ${line.message}`);
      if (line.event === 'created') {
        this.job = line.job;
        this.#invite = line.invite!;
      }
    }
  }

  /** Collects events, across restarts of the coordinator. */
  async #collect(): Promise<void> {
    const { signal } = this.#done;
    while (!signal.aborted) {
      try {
        const api = await ApiClient.open(this.coordinator.home, 'coordinator', { signal });
        for await (const event of api.events(this.job, { after: this.#after, follow: true, signal })) {
          this.#after = event.sequence;
          const text = JSON.stringify(event);
          if (!this.#seen.has(text)) this.events.push(event);
          this.#seen.add(text);
        }
      } catch {
        // Ignore the error, because the coordinator is down. After its next start, the stream continues.
      }
      await sleep(POLL_MS);
    }
  }
}

/**
 * Empties a home. The owner of a node empties it after damage that the node cannot repair; the node then gets a new key. An
 * operator empties it before restoring a copy.
 */
export async function wipe({ home }: Machine): Promise<void> {
  // The home may be the root of a disk, so only its content is deleted.
  for (const name of await readdir(home)) await rm(join(home, name), { recursive: true });
}

function jsonl(from: number, count: number): string {
  const clauses = TINY_TEXT.replace(/\s+/g, ' ').split(', ');
  const row = (i: number): string =>
    JSON.stringify({ text: [0, 3, 7].map((k) => clauses[(i * (k + 1) + k) % clauses.length]).join(', ') });
  return `${Array.from({ length: count }, (_, i) => row(from + i)).join('\n')}\n`;
}
