import { isSwarmError } from '../common/errors.ts';
import { decodeEvidence } from '../protocol/evidence.ts';
import type { Head } from '../protocol/messages.ts';
import type { RpcResponse } from '../protocol/requests/rpc.ts';
import { verifyError } from './errors.ts';
import {
  type BlobWanted,
  type CheckpointRecord,
  type JobRecord,
  nullRounds,
  type UpdateProof,
} from './record.ts';
import { RecordRequests, type RecordRequestsDeps, readableCheckpoint } from './record-requests.ts';

/** The job that is read, and messages of its coordinator that have been verified. */
export interface ReadJob {
  readonly job: string;
  /** The coordinator of the job, which answers the requests. */
  readonly coordinator: string;
  /** Signed manifest. */
  readonly manifest: Uint8Array;
  /** Newest head, and its signed form. */
  readonly head: Head;
  readonly signedHead: Uint8Array;
}

export interface SwarmRecordDeps extends RecordRequestsDeps {
  /** Fetches a blob of the job; null if no peer gives it. */
  fetch(ref: { digest: string; size: number }): Promise<Uint8Array | null>;
}

/**
 * Opens the record of a job, up to the checkpoint of the given head. The job's coordinator supplies the record over the
 * network. The requests to the coordinator do not depend on what the verification finds.
 * @throws SwarmError RPC_*, MESSAGE_*
 */
export async function openSwarmRecord(read: ReadJob, deps: SwarmRecordDeps): Promise<SwarmRecord> {
  const requests = new RecordRequests({ job: read.job, peer: read.coordinator }, deps);
  return new SwarmRecord(read, { ...deps, requests, settings: await requests.settings(read.head) });
}

export class SwarmRecord implements JobRecord {
  readonly manifest: Uint8Array;
  readonly settings: readonly Uint8Array[];
  readonly #read: ReadJob;
  readonly #deps: SwarmRecordDeps & { readonly requests: RecordRequests };
  /**
   * Sizes of the residuals and payloads of the newest two records, by digest, the newest record last. They are kept,
   * because no checkpoint contains these sizes.
   */
  #sizes: readonly ReadonlyMap<string, number>[] = [];

  constructor(
    read: ReadJob,
    deps: SwarmRecordDeps & { readonly requests: RecordRequests; readonly settings: readonly Uint8Array[] },
  ) {
    this.#read = read;
    this.#deps = deps;
    this.manifest = read.manifest;
    this.settings = deps.settings;
  }

  async *checkpoints(from: number): AsyncGenerator<CheckpointRecord, void, undefined> {
    const { ordinal: announced, round: newest, digest } = this.#read.head.checkpoint;
    // A round has at most one checkpoint, so a job cannot have more checkpoints than rounds.
    const last = Math.min(announced, newest);
    const start = await this.#firstAt(from, last);
    let before = -1;
    for (let ordinal = Math.max(0, start - 1); ordinal <= last; ordinal++) {
      const page = await this.#page(ordinal, 0);
      if (page === null) throw this.#incomplete(ordinal);
      const checkpoint = readableCheckpoint(page.checkpoint);
      // A coordinator that has lost checkpoints does not count them when it answers. It then sends the newest checkpoint under
      // a lower number than announced.
      const isLast = ordinal === last || checkpoint?.digest === digest;
      yield await this.#record(ordinal, page, { before, isLast });
      if (isLast) return;
      const round = checkpoint?.message.round ?? before;
      // Stop at a checkpoint of an earlier or the same round, because a coordinator could otherwise send
      // checkpoints without end. The verification reports the wrong order.
      if (round <= before) return;
      before = round;
    }
  }

  async blob({ digest, size, maxBytes }: BlobWanted): Promise<Uint8Array | null> {
    const known = size ?? this.#sizes.findLast((sizes) => sizes.has(digest))?.get(digest);
    // The coordinator chooses the size, so it must not be able to fill the memory or disk of this machine.
    if (known === undefined || known > maxBytes) return null;
    return this.#deps.fetch({ digest, size: known });
  }

  /** Returns the number of the first checkpoint of round `from` or a later round, by bisection. */
  async #firstAt(from: number, last: number): Promise<number> {
    let low = 0;
    let high = from === 0 ? 0 : last + 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const page = await this.#page(middle, 0);
      const round = page && readableCheckpoint(page.checkpoint)?.message.round;
      if ((round ?? from) < from) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Asks for a checkpoint. Returns null if the coordinator does not have it. */
  async #page(ordinal: number, first: number): Promise<Page | null> {
    const { checkpoint, residual, proofs } = await this.#deps.requests.record({ ordinal, first });
    return checkpoint === null ? null : { checkpoint, residual, proofs };
  }

  #incomplete(ordinal: number) {
    const { job } = this.#read;
    const text = `the coordinator announced checkpoint number ${ordinal}, but does not send it`;
    return verifyError('RECORD_INCOMPLETE', text, { job, ordinal });
  }

  async #record(
    ordinal: number,
    { checkpoint, residual, proofs }: Page,
    { before, isLast }: { before: number; isLast: boolean },
  ): Promise<CheckpointRecord> {
    const { signedHead } = this.#read;
    const all: (UpdateProof | null)[] = [...proofs];
    const { contributors, round } = readableCheckpoint(checkpoint)?.message ?? { contributors: [], round: 0 };
    while (all.length < contributors.length) {
      const more = await this.#page(ordinal, all.length);
      if (more === null) throw this.#incomplete(ordinal);
      if (more.proofs.length === 0) break;
      all.push(...more.proofs);
    }
    this.#sizes = [...this.#sizes.slice(-1), sizesOf(residual, all)];
    const { requests } = this.#deps;
    const figures = contributors.length > 0 ? await requests.figures(round) : null;
    const nullFigures: Uint8Array[] = [];
    // The rounds before the first record that is read are not needed.
    for (const one of before < 0 ? [] : nullRounds(before, round)) {
      const found = await requests.figures(one);
      if (found !== null) nullFigures.push(found);
    }
    const heads = isLast ? [signedHead] : [];
    return { checkpoint, residual: residual?.digest ?? null, proofs: all, figures, nullFigures, heads };
  }
}

/** An answer to the request `record` that has a checkpoint. */
type Page = RpcResponse<'record'> & { readonly checkpoint: Uint8Array };

function sizesOf(
  residual: RpcResponse<'record'>['residual'],
  proofs: readonly (UpdateProof | null)[],
): Map<string, number> {
  const sizes = new Map<string, number>();
  if (residual !== null) sizes.set(residual.digest, residual.size);
  for (const proof of proofs) {
    try {
      const payload = proof?.evidence && decodeEvidence(proof.evidence).update.payload;
      if (payload) sizes.set(payload.digest, payload.size);
    } catch (error) {
      // Skip unreadable evidence, because the verification reports it.
      if (!isSwarmError(error)) throw error;
    }
  }
  return sizes;
}
