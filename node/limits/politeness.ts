/**
 * Share of the machine's processor time that other programs must use before the node pauses. BOINC has the same default
 * for "suspend when non-BOINC CPU usage is above".
 */
export const BUSY_SHARE = 0.25;
/**
 * Milliseconds for which other programs must use at least `BUSY_SHARE` before the node pauses. A shorter burst, such as
 * a page load, causes no pause.
 */
export const BUSY_MS = 10_000;
/**
 * Milliseconds without a reason for a pause after which the node continues. Without this wait, a load near `BUSY_SHARE`
 * would make the node pause and continue again and again.
 */
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
  /** Newest time at which there was a reason to pause. */
  #seenAt = 0;

  /**
   * Takes the facts about the machine at the time `now`, in milliseconds.
   * @returns the reason for which the node must pause; null if it need not pause
   */
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
