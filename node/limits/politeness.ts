/**
 * Share of the machine's processor time that other programs must use before the node pauses. BOINC has the same default
 * for "suspend when non-BOINC CPU usage is above".
 */
export const BUSY_SHARE = 0.25;
/** Milliseconds for which other programs must be that busy. A shorter burst, such as opening a page, is no reason. */
export const BUSY_MS = 10_000;
/** Milliseconds without a reason after which the node goes on, so that it does not change back and forth. */
export const CALM_MS = 60_000;

export type PoliteReason = 'battery' | 'machine-busy';

/** Facts about the machine at one time. */
export interface MachineFacts {
  /** Processor time of other programs, as a share of the time of all threads; null if it is unknown. */
  readonly othersShare: number | null;
  readonly onBattery: boolean;
}

/** Decides when a node pauses for the person who uses the machine. */
export class Politeness {
  #reason: PoliteReason | null = null;
  /** Time since which other programs are busy; null if they are not. */
  #busySince: number | null = null;
  /** Time at which a reason was last seen. */
  #seenAt = 0;

  /** Returns the reason for a pause after the facts of the time `now`, in milliseconds; null if there is none. */
  next({ othersShare, onBattery }: MachineFacts, now: number): PoliteReason | null {
    const isBusy = othersShare !== null && othersShare >= BUSY_SHARE;
    this.#busySince = isBusy ? (this.#busySince ?? now) : null;
    const isLong = this.#busySince !== null && now - this.#busySince >= BUSY_MS;
    const isStillBusy = isBusy && this.#reason !== null;
    const found = onBattery ? 'battery' : isLong || isStillBusy ? 'machine-busy' : null;
    if (found !== null) {
      this.#reason = found;
      this.#seenAt = now;
    } else if (now - this.#seenAt >= CALM_MS) this.#reason = null;
    return this.#reason;
  }
}
