import { availableParallelism } from 'node:os';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Rates } from '../../net/bandwidth.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { KeptLimits } from '../../protocol/api/node.ts';
import { type LimitChanges, LimitsFile } from './limits.ts';
import { probeOf } from './machine/probe-of.ts';
import { MachineWatch, type MachineWatchDeps } from './machine-watch.ts';
import { NodeControl, type NodeControlDeps } from './node-control.ts';
import { Pauses } from './pauses.ts';
import type { JobLimits, NodePolicy } from './policy.ts';

export interface OwnerLimitsOptions {
  readonly home: string;
  /** Default limits. The limits in the home and the options at the start of the node override them. */
  readonly defaults: NodePolicy;
  /**
   * Limits from the options with which the node was started. Each of them overrides the limit in the home, until the
   * owner changes this limit.
   */
  readonly policy: Partial<NodePolicy>;
  readonly limits: GivenLimits;
  readonly polite: boolean | 'auto' | undefined;
}

/** Limits that options can set at the start of the node, except the limits on what a job may need (`NodePolicy`). */
export type GivenLimits = Pick<KeptLimits, 'hours' | 'maxUpload' | 'maxDownload' | 'maxTraffic'>;

/** The parts of a running node that `OwnerLimits` needs. */
export interface LimitedNode extends Pick<NodeControlDeps, 'work' | 'stop'> {
  readonly network: Pick<SwarmNetwork, 'limitBandwidth'>;
  /** Compares the jobs of the node with changed limits. */
  readonly checkLimits: () => void;
  /** Returns the bytes that were sent and received this month. */
  readonly traffic: MachineWatchDeps['traffic'];
}

/**
 * Maximum bandwidth of a polite node, in bytes per second, if the owner has set no maximum. A usual
 * home connection has 20 Mbit/s up and 100 Mbit/s down, so these values leave most of it to its users.
 */
const POLITE_UPLOAD = 1_000_000;
const POLITE_DOWNLOAD = 5_000_000;

interface OwnerLimitsDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

const POLICY = ['maxBaseBytes', 'maxDiskBytes', 'maxMemoryBytes'] as const;

/**
 * The limits that the owner of the machine has set: with options at the start of the node, in the node's
 * home, and with orders to the running node.
 */
export class OwnerLimits {
  readonly pauses = new Pauses();
  /** Limits that jobs are compared with. They change while the node runs. */
  readonly policy: JobLimits;
  readonly #options: OwnerLimitsOptions;
  readonly #deps: OwnerLimitsDeps;
  readonly #file: LimitsFile;
  /** Limits that were given as options at this start of the node, without those that the owner has changed since. */
  #given: KeptLimits;
  /** Whether the owner has set the memory limit. */
  #limitsMemory: boolean;
  /** Memory of this process, measured at its start, before it holds data of a job. */
  readonly #processBytes = process.memoryUsage.rss();
  #node: LimitedNode | null = null;
  #watch: MachineWatch | null = null;
  #control: NodeControl | null = null;

  private constructor(options: OwnerLimitsOptions, file: LimitsFile, deps: OwnerLimitsDeps) {
    const { defaults, policy, limits, polite } = options;
    this.#options = options;
    this.#file = file;
    this.#deps = deps;
    const kept = POLICY.flatMap((name) =>
      file.limits[name] === undefined ? [] : [[name, file.limits[name]]],
    );
    this.#limitsMemory = (policy.maxMemoryBytes ?? file.limits.maxMemoryBytes) !== undefined;
    const processBytes = (): number | null => (this.#limitsMemory ? this.#processBytes : null);
    this.policy = { ...defaults, ...Object.fromEntries(kept), ...policy, processBytes };
    this.#given = { ...limits, ...(typeof polite === 'boolean' && { polite }) };
  }

  /** @throws SwarmError LIMITS_DAMAGED */
  static async open(options: OwnerLimitsOptions, deps: OwnerLimitsDeps): Promise<OwnerLimits> {
    return new OwnerLimits(options, await LimitsFile.open(options.home), deps);
  }

  /** The limits that the home keeps. */
  get kept(): KeptLimits {
    return this.#file.limits;
  }

  /** Whether the node pauses for the user of the machine. */
  get isPolite(): boolean {
    return this.#watch?.isPolite ?? false;
  }

  /** Memory that the limit leaves to the trainer processes, in bytes. */
  get trainerBytes(): number {
    const { maxMemoryBytes, processBytes } = this.policy;
    return Math.max(0, maxMemoryBytes - (processBytes?.() ?? 0));
  }

  /** Starts to pause and resume the node automatically, according to its limits and the state of the machine. */
  async start(node: LimitedNode): Promise<void> {
    const { clock, log } = this.#deps;
    const { polite = false } = this.#options;
    const control = this.control(node);
    this.#node = node;
    this.#watch = new MachineWatch({
      clock,
      log,
      probe: probeOf(process.platform),
      pid: process.pid,
      threads: availableParallelism(),
      limits: () => this.#effective,
      polite,
      traffic: node.traffic,
      onPause: (pause) => {
        node.network.limitBandwidth(this.#rates());
        control.setMachinePause(pause);
      },
    });
    control.start();
    await this.#watch.start();
  }

  /** Returns the object that carries out the owner's orders. */
  control({ work, stop }: Pick<NodeControlDeps, 'work' | 'stop'>): NodeControl {
    this.#control ??= new NodeControl({
      ...this.#deps,
      file: this.#file,
      pauses: this.pauses,
      work,
      stop,
      onLimits: (changes) => this.#onLimits(changes),
    });
    return this.#control;
  }

  get #effective(): KeptLimits {
    return { ...this.kept, ...this.#given };
  }

  #rates(): Rates {
    const { maxUpload, maxDownload } = this.#effective;
    return {
      upload: maxUpload ?? (this.isPolite ? POLITE_UPLOAD : null),
      download: maxDownload ?? (this.isPolite ? POLITE_DOWNLOAD : null),
    };
  }

  stop(): void {
    this.#watch?.stop();
    this.#control?.stop();
  }

  #onLimits(changes: LimitChanges): void {
    const { defaults } = this.#options;
    for (const name of POLICY) {
      const value = changes[name];
      if (value !== undefined) this.policy[name] = value ?? defaults[name];
    }
    if (changes.maxMemoryBytes !== undefined) this.#limitsMemory = changes.maxMemoryBytes !== null;
    if (POLICY.some((name) => name in changes)) this.#node?.checkLimits();
    const given = Object.entries(this.#given).filter(([name]) => !(name in changes));
    this.#given = Object.fromEntries(given);
    const { log } = this.#deps;
    this.#watch?.look().catch((error: unknown) => log.warn({ error }, 'machine-not-read'));
  }
}
