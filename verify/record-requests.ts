import { isSwarmError } from '../common/errors.ts';
import type { Clock } from '../common/time/clock.ts';
import { sleep, withDeadline } from '../common/time/deadline.ts';
import type { SwarmNetwork } from '../net/network.ts';
import type { BlobProof } from '../protocol/access/job-key.ts';
import type { Head } from '../protocol/messages.ts';
import {
  callTimeoutMs,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
} from '../protocol/requests/rpc.ts';
import { type Verified, verifyMessage } from '../protocol/signing.ts';

/** Maximum number of changes of the settings that are fetched. Each needs a request. */
const FETCHED_CHANGES = 1000;
/** Pause in milliseconds after the peer has refused a request because its quota was used up. */
const PAUSE_MS = 1000;
/** Maximum number of such pauses for one request. 15 pauses suffice, because every quota is full again after 10 s. */
const PAUSES = 15;

export interface RecordRequestsDeps {
  readonly network: Pick<SwarmNetwork, 'request'>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** The peer that answers the requests of a verification, and the job. */
export interface AskedPeer {
  readonly job: string;
  /** Peer id of a coordinator or of a node. */
  readonly peer: string;
  /** Proof for a node that the caller has the job key. @default none */
  readonly proof?: BlobProof | null;
}

/** Sends the requests of a verification. Waits when the peer limits their rate. */
export class RecordRequests {
  readonly #asked: AskedPeer;
  readonly #deps: RecordRequestsDeps;

  constructor(asked: AskedPeer, deps: RecordRequestsDeps) {
    this.#asked = asked;
    this.#deps = deps;
  }

  record(place: { ordinal: number; first: number }): Promise<RpcResponse<'record'>> {
    return this.send('record', { job: this.#asked.job, ...place, ...this.#proof });
  }

  async figures(round: number): Promise<Uint8Array | null> {
    return (await this.send('figures', { job: this.#asked.job, round, ...this.#proof })).figures;
  }

  /**
   * Follows the changes of the settings back from the change that a head names.
   * @returns all these changes, oldest first. If the peer lacks a change, this change and all older changes are missing
   */
  async settings(head: Head): Promise<Uint8Array[]> {
    const { job } = this.#asked;
    const changes: Uint8Array[] = [];
    let record = head.settings?.record ?? null;
    while (record !== null && changes.length < FETCHED_CHANGES) {
      const { settings } = await this.send('settings', { job, record, ...this.#proof });
      if (settings === null) break;
      changes.unshift(settings);
      record = verifyMessage('settings', settings).message.previous;
    }
    return changes;
  }

  async send<M extends RpcMethod>(method: M, body: RpcRequest<M>): Promise<RpcResponse<M>> {
    const { network, clock, signal } = this.#deps;
    const deadline = { clock, ms: callTimeoutMs(method), signal, what: `the request "${method}"` };
    for (let pauses = 0; ; pauses++) {
      try {
        return await withDeadline(deadline, (inner) =>
          network.request(this.#asked.peer, method, body, { signal: inner }),
        );
      } catch (error) {
        const isLimited = isSwarmError(error, 'RPC_REFUSED') && error.values.code === 'RPC_RATE_LIMITED';
        if (!isLimited || pauses === PAUSES) throw error;
        await sleep(clock, PAUSE_MS, signal);
      }
    }
  }

  get #proof(): { proof?: BlobProof } {
    const { proof = null } = this.#asked;
    return proof === null ? {} : { proof };
  }
}

/** Returns a verified checkpoint; null if it is not valid. The verification reports it. */
export function readableCheckpoint(envelope: Uint8Array): Verified<'checkpoint'> | null {
  try {
    return verifyMessage('checkpoint', envelope);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return null;
  }
}
