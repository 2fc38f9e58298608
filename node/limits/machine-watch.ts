import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { formatBytes } from '../../common/text.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { KeptLimits, Pause } from '../../protocol/api/node.ts';
import { untilHours } from './hours.ts';
import type { MachineProbe, MachineReading } from './machine/probe.ts';
import { Politeness, type PoliteReason } from './politeness.ts';

/** Milliseconds between two checks of the owner's hours, if there is no probe for the system. */
const WITHOUT_PROBE_MS = 10_000;

const TEXTS: Readonly<Record<PoliteReason, string>> = {
  battery: 'this machine runs on battery',
  'machine-busy': 'other programs use the processor of this machine',
};

export interface MachineWatchDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Reads the state of the machine; null if this program cannot read it on this system. */
  readonly probe: MachineProbe | null;
  /** Process id of the node. */
  readonly pid: number;
  /** Number of hardware threads. */
  readonly threads: number;
  readonly limits: () => KeptLimits;
  /**
   * Whether the node is polite if the owner has not set the limit `polite`. With `auto`, the node is polite if a person
   * uses the machine.
   */
  readonly polite: boolean | 'auto';
  /** Returns the bytes that were sent and received this month, and the name of the month in UTC, such as "2026-11". */
  readonly traffic: () => { bytes: number; month: string };
  /** Called after each reading of the machine, with the pause that the node must make; null for none. */
  readonly onPause: (pause: Pause | null) => void;
}

/**
 * Pauses the node outside the hours that the owner has set, and when the traffic of the month has reached the owner's
 * limit. Pauses a polite node also for the user of the machine.
 */
export class MachineWatch {
  readonly #deps: MachineWatchDeps;
  #politeness = new Politeness();
  #last: { at: number; reading: MachineReading } | null = null;
  #hasUser = false;
  #cancel = (): void => {};
  #isStopped = false;

  constructor(deps: MachineWatchDeps) {
    this.#deps = deps;
  }

  /** Whether the node pauses for the user of the machine. */
  get isPolite(): boolean {
    const { limits, polite, probe } = this.#deps;
    const wanted = limits().polite ?? polite;
    return probe !== null && (wanted === 'auto' ? this.#hasUser : wanted);
  }

  /** Reads the state of the machine now, and then periodically until `stop` is called. */
  async start(): Promise<void> {
    const { clock, probe, log } = this.#deps;
    await this.look().catch((error: unknown) => log.warn({ reason: messageOf(error) }, 'machine-not-read'));
    if (this.#isStopped) return;
    this.#cancel = clock.after(probe?.everyMs ?? WITHOUT_PROBE_MS, () => void this.start());
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** Reads the state of the machine once. */
  async look(): Promise<void> {
    const { probe, pid, clock, limits, onPause } = this.#deps;
    const needsProbe = probe !== null && (limits().polite ?? this.#deps.polite) !== false;
    const reading = needsProbe ? await probe.read(pid) : null;
    if (this.#isStopped) return;
    const now = clock.monotonic();
    const othersShare = this.#othersShare(reading, now);
    this.#last = reading && { at: now, reading };
    this.#hasUser = reading?.hasUser ?? false;
    if (!this.isPolite) this.#politeness = new Politeness();
    const reason = this.isPolite
      ? this.#politeness.next({ othersShare, onBattery: reading?.onBattery ?? false }, now)
      : null;
    onPause(
      this.#outsideHours() ?? this.#overTraffic() ?? (reason && { reason, text: TEXTS[reason], until: null }),
    );
  }

  /** Returns the share of the processor time that other programs used since the last reading; null if it is unknown. */
  #othersShare(reading: MachineReading | null, now: number): number | null {
    const before = this.#last;
    if (before === null || reading === null || now <= before.at) return null;
    const busy = change(before.reading.busySeconds, reading.busySeconds);
    const own = change(before.reading.ownSeconds, reading.ownSeconds);
    if (busy === null || own === null) return null;
    const seconds = ((now - before.at) / 1000) * this.#deps.threads;
    // The processor time of a child process may be missing after its end. The change of `own` can therefore
    // be negative.
    return Math.max(0, busy - Math.max(0, own)) / seconds;
  }

  #overTraffic(): Pause | null {
    const { maxTraffic } = this.#deps.limits();
    if (maxTraffic === undefined) return null;
    const { bytes, month } = this.#deps.traffic();
    if (bytes < maxTraffic) return null;
    const [year = 0, number = 0] = month.split('-').map(Number);
    return {
      reason: 'traffic',
      text: `the traffic of this month has reached ${formatBytes(maxTraffic)}; "lora-swarm node config max-traffic=…" raises the limit`,
      until: Date.UTC(year, number),
    };
  }

  #outsideHours(): Pause | null {
    const { hours } = this.#deps.limits();
    if (hours === undefined) return null;
    const now = this.#deps.clock.now();
    const waitMs = untilHours(hours, new Date(now));
    if (waitMs === 0) return null;
    return { reason: 'hours', text: `this machine works only at ${hours}`, until: now + waitMs };
  }
}

function change(before: number | null, after: number | null): number | null {
  return before === null || after === null ? null : after - before;
}
