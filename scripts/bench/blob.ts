import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions, BenchRow } from '../bench.ts';
import type { Offer } from './blob-peer.ts';

export const name = 'blob';

const MB = 1_000_000;
const BLOB_BYTES = 256 * MB;
/** Alternating transfers after one of each to warm up. */
const PAIRS = 5;
const TARGET = 0.7;
const PATIENCE_MS = 120_000;

/**
 * A blob between two hosts on loopback, fetched in ranges, verified, and durable on disk, against as many bytes over
 * one stream between two libp2p nodes with the library's defaults, which takes them and forgets them. Each of the four
 * is a process of its own.
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
  try {
    const size = String(BLOB_BYTES);
    const [bareOffer, blobOffer, bare, blob] = await Promise.all([
      start<Offer>('bare', '', size),
      start<Offer>('host', join(folder, 'sender'), size),
      start('bare', ''),
      start('host', join(folder, 'receiver')),
    ]);
    const rate = async (child: ChildProcess, offer: Offer): Promise<number> => {
      child.send(offer);
      return BLOB_BYTES / MB / ((await answer<number>(child, signal)) / 1000);
    };
    const pairs: { bare: number; blob: number; share: number }[] = [];
    for (let pair = 0; pair <= PAIRS; pair++) {
      const bareRate = await rate(bare.child, bareOffer.hello);
      const blobRate = await rate(blob.child, blobOffer.hello);
      if (pair === 0) continue;
      pairs.push({ bare: bareRate, blob: blobRate, share: blobRate / bareRate });
      options.log(`pair ${pair}: bare ${bareRate.toFixed(0)} MB/s, blob ${blobRate.toFixed(0)} MB/s`);
    }
    const share = median(pairs.map((pair) => pair.share));
    const where = `256 MB on loopback, median of ${PAIRS} pairs`;
    const row = { unit: 'MB/s', target: null, met: null };
    report({ name: 'bare stream', value: median(pairs.map((pair) => pair.bare)), ...row, reference: where });
    report({
      name: 'blob',
      value: median(pairs.map((pair) => pair.blob)),
      ...row,
      reference: `${where}, verified, on disk`,
    });
    report({
      name: 'blob / bare stream',
      value: share,
      unit: '×',
      target: TARGET,
      met: share >= TARGET,
      reference: `${where}, in alternation`,
    });
  } finally {
    for (const child of children) if (child.connected) child.disconnect();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The child's next message. @throws when it dies instead */
async function answer<T>(child: ChildProcess, signal: AbortSignal): Promise<T> {
  const died = once(child, 'exit', { signal }).then(([code]) => {
    throw new Error(`a benchmark process ended with ${code}`);
  });
  const [message] = await Promise.race([once(child, 'message', { signal }), died]);
  died.catch(() => {});
  return message as T;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
