/**
 * A swarm of real processes on loopback. Tests in this folder start and kill them, and use only the command line and the
 * control API.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { followEvents } from '../../coordinator/client/follow.ts';
import type { CheckpointView } from '../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const swarmFile = join(root, 'cli', 'swarm.js');
/** Maximum wait in milliseconds. Everything that a test waits for happens much earlier. */
export const PATIENCE_MS = 120_000;

type Line = Record<string, unknown>;

/** A running `lora-swarm …` process. Parses the JSON lines that it prints. */
export class Daemon {
  readonly process: ChildProcess;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly lines: Line[] = [];
  readonly #name: string;
  #stderr = '';
  readonly #waiting = new Set<() => void>();

  /** @param input text for stdin @default stdin is closed */
  constructor(
    name: string,
    args: readonly string[],
    environment: Record<string, string> = {},
    input: string | null = null,
  ) {
    this.#name = name;
    this.process = spawn(process.execPath, [swarmFile, ...args], {
      cwd: root,
      // Names an engine, so that the nodes do not measure engines. Several measurements at once would disturb each
      // other.
      env: { ...process.env, SWARM_ENGINE: 'onnx-cpu', ...environment },
      stdio: [input === null ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    // The input stays open, as in a terminal.
    if (input !== null) this.process.stdin!.write(input);
    this.exited = once(this.process, 'exit').then(([code, signal]) => ({ code, signal }));
    this.process.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-8_000);
    });
    createInterface({ input: this.process.stdout! }).on('line', (text) => {
      this.lines.push(JSON.parse(text) as Line);
      for (const check of this.#waiting) check();
    });
    onTestFinished(async () => {
      this.process.kill('SIGKILL');
      await this.exited;
    });
  }

  /** Waits for the first line, past or future, that `matches`. @param what describes the line in the error */
  async line(what: string, matches: (line: Line) => boolean): Promise<Line> {
    const found = Promise.withResolvers<Line>();
    const check = (): void => {
      const line = this.lines.find(matches);
      if (line) found.resolve(line);
    };
    this.#waiting.add(check);
    check();
    const died = this.exited.then(({ code, signal }) => {
      throw new Error(`${this.#name} ended (${signal ?? code}) before ${what}:\n${this.#stderr}`);
    });
    try {
      return await within(`${this.#name}: ${what}`, Promise.race([found.promise, died]), () => this.#stderr);
    } finally {
      this.#waiting.delete(check);
      died.catch(() => {
        // If the process ended too early, the race above has already thrown this error.
      });
    }
  }

  async ready(): Promise<this> {
    await this.line('ready', ({ event }) => event === 'ready');
    return this;
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exited;
  }

  /** Sends SIGINT, as Ctrl-C does, and waits for the end. */
  async interrupt(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.process.kill('SIGINT');
    return within(`${this.#name} stops`, this.exited, () => this.#stderr);
  }
}

export interface JobOptions {
  name?: string;
  admission?: 'open' | 'invite';
  lora?: Record<string, unknown>;
  rounds?: Record<string, unknown>;
  training?: Record<string, unknown>;
  acceptance?: Record<string, unknown>;
  samples?: Record<string, unknown>;
  tasks?: Record<string, unknown>;
}

/** The home of a coordinator, its job, and any number of nodes. */
export class TestSwarm {
  readonly folder: string;
  readonly home: string;
  readonly signal = AbortSignal.timeout(600_000);
  job = '';
  invite = '';

  private constructor(folder: string) {
    this.folder = folder;
    this.home = join(folder, 'coordinator');
  }

  static async create(): Promise<TestSwarm> {
    return new TestSwarm(await temporaryFolder());
  }

  /** Starts the coordinator: on any free port the first time, later on the same port, as on a server. */
  async coordinator(
    environment: Record<string, string> = {},
    options: readonly string[] = [],
  ): Promise<Daemon> {
    const port = await readFile(join(this.home, 'listen-port'), 'utf8').catch(() => '0');
    const listen = `/ip4/127.0.0.1/tcp/${port.trim()}`;
    const args = ['coordinator', '--home', this.home, '--listen', listen, '--no-mdns', '--json'];
    return new Daemon('coordinator', [...args, ...options], environment);
  }

  homeOf(node: string): string {
    return join(this.folder, node);
  }

  node(name: string, options: readonly string[] = []): Daemon {
    return new Daemon(name, this.nodeArguments(name, [this.invite, ...options]));
  }

  nodeArguments(name: string, options: readonly string[]): string[] {
    const common = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--threads', '1', '--json'];
    return ['node', '--no-polite', ...options, '--home', this.homeOf(name), '--name', name, ...common];
  }

  api(): Promise<ApiClient> {
    return ApiClient.open(this.home, 'coordinator', { signal: this.signal });
  }

  /** Creates a job on the tiny model. A round takes a second or two, long enough to kill a process in the middle. */
  async createJob(options: JobOptions = {}): Promise<void> {
    const base = await makeTinyModel(join(this.folder, 'model'));
    const train = join(this.folder, 'train.jsonl');
    const heldOut = join(this.folder, 'held-out.jsonl');
    await writeFile(train, jsonl(0, 160));
    await writeFile(heldOut, jsonl(160, 20));
    const spec = {
      name: options.name ?? 'tale',
      ...(options.admission && { admission: options.admission }),
      base,
      data: { train: [train], heldOut: [heldOut] },
      lora: { rank: 4, alpha: 8, ...options.lora },
      training: { sequenceLength: 32, batchSize: 4, microBatch: 4, learningRate: 2e-3, ...options.training },
      rounds: {
        count: 6,
        localSteps: 200,
        minPeers: 2,
        maxSeconds: 60,
        preset: 'balanced',
        ...options.rounds,
      },
      // Most tests here do not depend on the loss, so the gate accepts every merge.
      acceptance: { tolerance: 1, ...options.acceptance },
      ...(options.samples && { samples: options.samples }),
      ...(options.tasks && { tasks: options.tasks }),
    };
    const api = await this.api();
    for await (const line of api.createJob(spec)) {
      if (line.event === 'error') throw new Error(`${line.code}: ${line.message}`);
      if (line.event === 'created') Object.assign(this, { job: line.job, invite: line.invite });
    }
  }

  /** Collects the job's events, across restarts of the coordinator, up to one that `matches`. */
  async until(what: string, matches: (event: JobEvent) => boolean): Promise<JobEvent[]> {
    const seen: JobEvent[] = [];
    const done = new AbortController();
    const follow = async (): Promise<JobEvent[]> => {
      const events = followEvents(() => this.api(), this.job, { signal: done.signal, now: Date.now });
      for await (const event of events) {
        seen.push(event);
        if (matches(event)) return seen;
      }
      throw new Error(`the events ended before ${what}`);
    };
    try {
      return await within(what, follow(), () => seen.map((event) => JSON.stringify(event)).join('\n'));
    } finally {
      done.abort();
    }
  }

  untilFinished(): Promise<JobEvent[]> {
    return this.until('the job is finished', ({ type }) => type === 'finished');
  }

  async checkpoints(): Promise<CheckpointView[]> {
    const checkpoints = await (await this.api()).checkpoints(this.job);
    return checkpoints.sort((a, b) => a.round - b.round);
  }
}

/** Fails after `PATIENCE_MS`, with `what` and the text of `context` in the error. */
export async function within<T>(what: string, promise: Promise<T>, context: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`waited ${PATIENCE_MS / 1000} s: ${what}\n${context()}`)),
      PATIENCE_MS,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the faults in a chain of checkpoints: rounds must grow, each must name its parent, no update may be in two. */
export function chainFaults(checkpoints: readonly CheckpointView[]): string[] {
  const faults: string[] = [];
  const merged = new Map<string, number>();
  checkpoints.forEach((view, i) => {
    const previous = checkpoints[i - 1];
    if ((previous?.digest ?? null) !== view.parent)
      faults.push(`round ${view.round} has parent ${view.parent}`);
    if (previous && view.round <= previous.round) faults.push(`round ${view.round} after ${previous.round}`);
    for (const { update, peer } of view.checkpoint.contributors) {
      const earlier = merged.get(update);
      if (earlier !== undefined) faults.push(`${peer}'s update is in rounds ${earlier} and ${view.round}`);
      merged.set(update, view.round);
    }
  });
  return faults;
}

function jsonl(from: number, count: number): string {
  const clauses = TINY_TEXT.replace(/\s+/g, ' ').split(', ');
  const row = (i: number): string =>
    JSON.stringify({ text: [0, 3, 7].map((k) => clauses[(i * (k + 1) + k) % clauses.length]).join(', ') });
  return `${Array.from({ length: count }, (_, i) => row(from + i)).join('\n')}\n`;
}
