import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions, BenchRow } from '../bench.ts';
import type { Offer } from './blob-peer.ts';

export const name = 'blob';
export const about =
  'speed of transfers of 256 MB over the blob protocol and over a bare stream, measured in turns (under a minute)';

const MB = 1_000_000;
const BLOB_BYTES = 256 * MB;
/** Number of rounds. In each round, every kind of transfer runs once. One warm-up round comes first. */
const ROUNDS = 7;
/**
 * Minimum speed of transfers between the project's hosts (`host`), as a fraction of the speed between default libp2p
 * nodes (`bare`).
 */
const TARGET = 0.7;
/** Time after which the benchmark is aborted. */
const PATIENCE_MS = 300_000;

/** One transfer: its speed in MB/s (`rate`), and the processor time of both ends together in milliseconds (`cpu`). */
interface Transfer {
  rate: number;
  cpu: number;
}

/**
 * The compared transfers. `bare`: a stream between default libp2p nodes. `tuned`: a stream between nodes with the host's
 * settings. `host`: a blob between two hosts. The target for `host` is relative to `bare`.
 */
const kinds = ['bare', 'tuned', 'host'] as const;
type Kind = (typeof kinds)[number];

/**
 * Compares fetching a blob between two hosts on loopback (in ranges, verified, durable on disk) with sending as many bytes
 * over one stream between two libp2p nodes, where the receiver discards them. Each end is a separate process.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-blob-'));
  const children: ChildProcess[] = [];
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const start = async <T>(...args: string[]): Promise<{ child: ChildProcess; hello: T }> => {
    const child = fork(join(import.meta.dirname, 'blob-peer.ts'), args);
    children.push(child);
    return { child, hello: await answer<T>(child, signal) };
  };
  const side = async (kind: Kind) => {
    const [from, to] = await Promise.all([
      start<Offer>(kind, join(folder, `${kind}-from`), String(BLOB_BYTES)),
      start(kind, join(folder, `${kind}-to`)),
    ]);
    const ask = (child: ChildProcess, question: Offer | 'cpu'): Promise<number> => {
      child.send(question);
      return answer<number>(child, signal);
    };
    const used = async () => (await ask(from.child, 'cpu')) + (await ask(to.child, 'cpu'));
    return async (): Promise<Transfer> => {
      const before = await used();
      const ms = await ask(to.child, from.hello);
      return { rate: BLOB_BYTES / MB / (ms / 1000), cpu: (await used()) - before };
    };
  };
  try {
    const [bare, tuned, host] = await Promise.all([side('bare'), side('tuned'), side('host')]);
    const rounds: Record<Kind, Transfer>[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const took = { bare: await bare(), tuned: await tuned(), host: await host() };
      if (round === 0) continue;
      rounds.push(took);
      const results = kinds.map(
        (kind) =>
          `${kind} ${took[kind].rate.toFixed(0)} MB/s, ${took[kind].cpu.toFixed(0)} ms of processor time`,
      );
      options.log(`round ${round}: ${results.join('; ')}`);
    }
    const load = `load ${loadavg()[0]!.toFixed(1)} on ${availableParallelism()} cores`;
    const where = `256 MB on loopback, median of ${ROUNDS} in alternation, ${load}`;
    const row = (name: string, values: number[], unit: string, target: number | null, reference: string) => {
      const value = median(values);
      const met = target === null ? null : value >= target;
      const [least, most] = [Math.min(...values), Math.max(...values)].map((v) => v.toPrecision(3));
      report({ name, value, unit, target, met, reference: `${reference}; ${least} to ${most}` });
    };
    const of = (kind: Kind) => rounds.map((took) => took[kind].rate);
    const share = (kind: Kind) => rounds.map((took) => took.host.rate / took[kind].rate);
    const work = rounds.map((took) => took.host.cpu / took.bare.cpu);
    row('bare stream', of('bare'), 'MB/s', null, where);
    row("stream with the hosts' settings", of('tuned'), 'MB/s', null, where);
    row('blob', of('host'), 'MB/s', null, `${where}, verified, on disk`);
    row('blob / bare stream', share('bare'), '×', TARGET, where);
    row("blob / stream with the hosts' settings", share('tuned'), '×', null, where);
    row('blob / bare stream, processor time', work, '×', null, `${where}, both ends`);
  } finally {
    for (const child of children) if (child.connected) child.disconnect();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Returns the child's next message. @throws if the child ends first */
async function answer<T>(child: ChildProcess, signal: AbortSignal): Promise<T> {
  const answered = new AbortController();
  const either = { signal: AbortSignal.any([signal, answered.signal]) };
  const died = once(child, 'exit', either).then(([code]) => {
    throw new Error(`a benchmark process ended with ${code}`);
  });
  died.catch(() => {});
  try {
    const [message] = await Promise.race([once(child, 'message', either), died]);
    return message as T;
  } finally {
    answered.abort();
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
