import { isSwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Hold } from '../../protocol/api/node.ts';

/** Time between two checks whether a full disk has space again, in milliseconds. */
const CHECK_MS = 10_000;

interface DiskHoldDeps {
  readonly clock: Clock;
  /** Checks that the disk can be written. Rejects if it cannot. */
  readonly check: () => Promise<void>;
  readonly setHold: (hold: Hold | null) => void;
}

/**
 * Sets a hold when the node's disk is full, so that no round waits for the node. Ends the hold when the disk has space
 * again.
 */
export class DiskHold {
  readonly #deps: DiskHoldDeps;
  #cancel = (): void => {};
  /** Grows with each call of `stop`. The result of a check that began before the call is ignored. */
  #period = 0;

  constructor(deps: DiskHoldDeps) {
    this.#deps = deps;
  }

  /** Sets the hold if an error says that the disk is full. */
  note(error: unknown): void {
    if (!isSwarmError(error, 'STORE_FULL')) return;
    this.#deps.setHold({ reason: 'disk-full', detail: '' });
    this.#checkLater();
  }

  /** Stops the checks of the disk. */
  stop(): void {
    this.#cancel();
    this.#period++;
  }

  #checkLater(): void {
    const { clock, check, setHold } = this.#deps;
    this.stop();
    const period = this.#period;
    this.#cancel = clock.after(CHECK_MS, () => {
      check().then(
        () => period === this.#period && setHold(null),
        () => period === this.#period && this.#checkLater(),
      );
    });
  }
}
