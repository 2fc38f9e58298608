/** The coordinator that is attacked in the benchmark of attacks. It runs in a separate process. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as pause } from 'node:timers/promises';
import { HelperProcess } from '../../cli/daemon/helper-process.ts';
import type { DemoData } from '../../cli/demo/data.ts';
import { submitJob } from '../../cli/job/create.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { decodeInvite } from '../../protocol/access/invite.ts';
import { verifyMessage } from '../../protocol/signing.ts';

const ROOT = join(import.meta.dirname, '../..');
const BASE = join(ROOT, 'models', 'nano');
/**
 * Value of the setting `minPeers` of the job. The benchmark has fewer nodes than this number, so no round
 * opens.
 */
const MIN_PEERS = 512;

/** Time limit, in milliseconds, for the coordinator to collect its garbage and report its live memory. */
const LIVE_PATIENCE_MS = 30_000;

/** Facts about the target that peers need. */
export interface Target {
  address: string;
  peer: string;
  job: string;
  /** The largest file of the base. */
  blob: { digest: string; size: number };
}

/**
 * Measurements of the coordinator. Unless a field says otherwise, times and numbers count from the start of
 * the coordinator.
 */
export interface TargetLoad {
  at: number;
  cpuSeconds: number;
  memoryBytes: number;
  databaseBytes: number;
  /** Number of accepted heartbeats of members. */
  accepted: number;
  /** Number of gossip messages that were dropped, ignored or rejected, plus number of refused updates. */
  refused: number;
  /** Maximum processor time between two turns of the event loop since the previous measurement, in ms. */
  lagMs: number;
}

export class AttackTarget {
  readonly target: Target;
  readonly #helper: HelperProcess;
  readonly #home: string;
  readonly #lagFile: string;
  readonly #liveFile: string;
  readonly #metricsUrl: URL;
  #lagLines = 0;

  private constructor(parts: {
    target: Target;
    helper: HelperProcess;
    home: string;
    lagFile: string;
    liveFile: string;
    metricsUrl: URL;
  }) {
    this.target = parts.target;
    this.#helper = parts.helper;
    this.#home = parts.home;
    this.#lagFile = parts.lagFile;
    this.#liveFile = parts.liveFile;
    this.#metricsUrl = parts.metricsUrl;
  }

  /** Starts a coordinator with an open job. */
  static async start(folder: string, data: DemoData, signal: AbortSignal): Promise<AttackTarget> {
    const home = join(folder, 'coordinator');
    const lagFile = join(folder, 'lag');
    const liveFile = join(folder, 'live');
    const preloads = ['loop-lag.ts', 'live-memory.ts'].map(
      (name) => `--import=${join(import.meta.dirname, name)}`,
    );
    const options = [process.env.NODE_OPTIONS ?? '', ...preloads].join(' ');
    const context = {
      self: { node: process.execPath, script: join(ROOT, 'cli', 'swarm.js') },
      cwd: ROOT,
      environment: {
        ...process.env,
        NODE_OPTIONS: options,
        LAG_FILE: lagFile,
        LIVE_FILE: liveFile,
      },
      clock: systemClock,
      signal,
      stderr: { write: () => {}, isTTY: false, columns: 80, rows: 24, color: false },
    };
    const listen = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--threads', '1', '--json'];
    const helper = new HelperProcess(
      {
        name: 'coordinator',
        arguments: ['coordinator', '--home', home, '--no-publish', ...listen],
        logFile: join(folder, 'log'),
      },
      context,
    );
    try {
      await helper.first('ready', { signal });
      const client = await ApiClient.open(home, 'coordinator', { signal });
      const { job, invite } = await submitJob(context, client, {
        name: 'bench',
        base: BASE,
        data: { train: [data.train], heldOut: [data.heldOut] },
        lora: { rank: 4, alpha: 8 },
        training: { learningRate: 1e-3, batchSize: 8, microBatch: 8, sequenceLength: 128 },
        rounds: { count: 1, localSteps: 1, minPeers: MIN_PEERS },
      });
      const { addresses } = decodeInvite(invite);
      const { url } = JSON.parse(readFileSync(join(home, 'coordinator.json'), 'utf8')) as { url: string };
      const target = {
        address: addresses[0]!,
        peer: addresses[0]!.split('/').at(-1)!,
        job,
        blob: { digest: '', size: 0 },
      };
      return new AttackTarget({
        target,
        helper,
        home,
        lagFile,
        liveFile,
        metricsUrl: new URL('/metrics', url),
      });
    } catch (error) {
      await helper.stop();
      throw error;
    }
  }

  /** Chooses the largest file of the job's base as the blob that peers fetch. @param manifest the signed manifest */
  choose(manifest: Uint8Array): void {
    const { files } = verifyMessage('manifest', manifest).message.base;
    const [largest] = [...files].sort((a, b) => b.size - a.size);
    this.target.blob = { digest: largest!.digest, size: largest!.size };
  }

  async load(): Promise<TargetLoad> {
    const text = await (await fetch(this.#metricsUrl)).text();
    const sum = (name: string, ...labels: string[]): number =>
      text
        .split('\n')
        .filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length] ?? ''))
        .filter((line) => labels.every((label) => line.includes(label)))
        .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    const judged = (verdict: string): number =>
      sum('swarm_gossip_messages_total', 'direction="inbound"', `verdict="${verdict}"`);
    const lags = readFileSync(this.#lagFile, 'utf8').trim().split('\n').map(Number);
    const recent = lags.slice(this.#lagLines);
    this.#lagLines = lags.length;
    return {
      at: performance.now(),
      cpuSeconds: sum('swarm_process_cpu_seconds_total'),
      memoryBytes: sum('swarm_process_resident_memory_bytes'),
      databaseBytes: this.#databaseBytes(),
      accepted: sum('swarm_gossip_messages_total', 'channel="peers"', 'verdict="accept"'),
      refused:
        sum('swarm_gossip_dropped_total') +
        judged('ignore') +
        judged('reject') +
        sum('swarm_update_refusals_total'),
      lagMs: Math.max(0, ...recent),
    };
  }

  /** Lets the coordinator collect all garbage, and returns the bytes that are live then. */
  async liveBytes(): Promise<number> {
    const lines = (): string[] =>
      existsSync(this.#liveFile) ? readFileSync(this.#liveFile, 'utf8').trim().split('\n') : [];
    const before = lines().length;
    process.kill(this.#helper.pid!, 'SIGUSR2');
    for (let waited = 0; waited < LIVE_PATIENCE_MS; waited += 50) {
      await pause(50);
      if (lines().length > before) return Number(lines().at(-1));
    }
    throw new Error('the coordinator did not report its live memory');
  }

  /** Returns the size of the database without its write-ahead log. SQLite reuses the log, so its size says little. */
  #databaseBytes(): number {
    const database = new DatabaseSync(join(this.#home, 'coordinator.sqlite'), { readOnly: true });
    try {
      const number = (pragma: string): number =>
        Object.values(database.prepare(`PRAGMA ${pragma}`).get() ?? {})[0] as number;
      return number('page_count') * number('page_size');
    } finally {
      database.close();
    }
  }

  stop(): Promise<void> {
    return this.#helper.stop();
  }
}
