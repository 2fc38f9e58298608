import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import { signMessage } from '../../protocol/signing.ts';
import type { StoredReceipt } from '../store/store.ts';

/** Receipts on their way at a time, and waiting; what does not fit is asked for by its author. */
const SENDING_AT_ONCE = 16;
const WAITING = 2048;

/** The signed form of a receipt: the same bytes whenever it is asked for. */
export function sealReceipt(
  job: string,
  { digest, ...receipt }: StoredReceipt,
  signer: SwarmNetwork['signer'],
): Uint8Array {
  return signMessage('receipt', { job, update: digest, ...receipt }, signer);
}

/** Pushes receipts to their authors as soon as there are some. Best effort: authors also ask. */
export class Notifier {
  readonly #signal: AbortSignal;
  readonly #deps: { network: SwarmNetwork; clock: Clock; log: Logger };
  readonly #waiting: { peer: string; receipt: Uint8Array }[] = [];
  #sending = 0;

  constructor(options: { signal: AbortSignal }, deps: { network: SwarmNetwork; clock: Clock; log: Logger }) {
    this.#signal = options.signal;
    this.#deps = deps;
  }

  send(peer: string, receipt: Uint8Array): void {
    if (this.#waiting.length >= WAITING || this.#signal.aborted) return;
    this.#waiting.push({ peer, receipt });
    this.#next();
  }

  #next(): void {
    if (this.#sending >= SENDING_AT_ONCE || this.#signal.aborted) return;
    const item = this.#waiting.shift();
    if (!item) return;
    this.#sending++;
    const { network, clock, log } = this.#deps;
    withDeadline({ clock, ms: RPC_TIMEOUT_MS, signal: this.#signal, what: 'a receipt' }, (signal) =>
      network.request(item.peer, 'notify', { receipt: item.receipt }, { signal }),
    )
      .catch((error: unknown) => log.debug({ peer: item.peer, error }, 'receipt-not-delivered'))
      .finally(() => {
        this.#sending--;
        this.#next();
      });
  }
}
