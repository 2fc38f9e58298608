import type { Head } from '../protocol/messages.ts';
import { verifyError } from './errors.ts';
import type { BlobWanted, CheckpointRecord, JobRecord, PartialRecord, UpdateProof } from './record.ts';
import { type AskedPeer, RecordRequests, readableCheckpoint } from './record-requests.ts';
import type { SwarmRecordDeps } from './swarm-record.ts';

/** Reasons why a node lacks a part of the record. */
export const NODE_REASONS: PartialRecord['reasons'] = {
  checkpoints:
    'a node keeps the checkpoints of its newest 64 rounds, and in a job with more than 16 contributors only some of them',
  settings: 'a node keeps only the newest 64 changes of the settings',
  updates:
    'a node keeps no payloads; it keeps signed updates of other nodes only from merges that its witness has checked',
  receipts: 'a node keeps only its own receipts, and all receipts of merges that its witness has checked',
  figures: 'a node keeps only the scores of merges that its witness has checked',
  adapters: 'a node keeps only its newest adapter',
};
/**
 * Number of newest checkpoints whose adapters are asked for. A node holds one adapter. The adapter can be behind the newest
 * head, for example if the coordinator stopped before the node could fetch the adapter of this head.
 */
const ASKED_ADAPTERS = 3;

/** A node that gives its part of a job's record, and messages of the coordinator that have been verified. */
export interface ReadNode extends AskedPeer {
  /** Signed manifest. */
  readonly manifest: Uint8Array;
  /** The newest head that the node has, and its signed form. */
  readonly head: Head;
  readonly signedHead: Uint8Array;
}

/**
 * Opens the part of a job's record that a node keeps, up to the checkpoint of the given head.
 * @throws SwarmError RPC_*, MESSAGE_*
 */
export async function openNodeRecord(read: ReadNode, deps: SwarmRecordDeps): Promise<JobRecord> {
  const requests = new RecordRequests(read, deps);
  return new NodeRecord(read, { fetch: deps.fetch, requests, settings: await requests.settings(read.head) });
}

interface NodeRecordDeps extends Pick<SwarmRecordDeps, 'fetch'> {
  readonly requests: RecordRequests;
  readonly settings: readonly Uint8Array[];
}

/** A checkpoint that a node keeps. */
interface Page {
  readonly ordinal: number;
  readonly checkpoint: Uint8Array;
  readonly proofs: readonly (UpdateProof | null)[];
}

class NodeRecord implements JobRecord {
  readonly manifest: Uint8Array;
  readonly settings: readonly Uint8Array[];
  readonly partial: PartialRecord;
  readonly #deps: NodeRecordDeps;
  /** Number and digest of the checkpoint that the newest head announces. */
  readonly #last: number;
  readonly #announced: string;
  /** Digests of the adapters that the node may have. */
  readonly #adapters = new Set<string>();

  constructor({ manifest, head, signedHead }: ReadNode, deps: NodeRecordDeps) {
    this.manifest = manifest;
    this.settings = deps.settings;
    this.partial = { head: signedHead, reasons: NODE_REASONS };
    this.#deps = deps;
    const { ordinal, round, digest, adapter } = head.checkpoint;
    this.#announced = digest;
    // A round has at most one checkpoint, so a job cannot have more checkpoints than rounds.
    this.#last = Math.min(ordinal, round);
    this.#adapters.add(adapter.digest);
  }

  async *checkpoints(from: number): AsyncGenerator<CheckpointRecord, void, undefined> {
    let before = -1;
    for (let next = Math.max(0, (await this.#firstAt(from)) - 1); next <= this.#last; ) {
      const page = await this.#page(next, 0);
      if (page === null) return;
      const { ordinal, checkpoint } = page;
      const found = readableCheckpoint(checkpoint);
      const { contributors = [], round = before, adapter } = found?.message ?? {};
      if (adapter && ordinal > this.#last - ASKED_ADAPTERS) this.#adapters.add(adapter.digest);
      const proofs = await this.#proofs(page, contributors.length);
      const heads = found?.digest === this.#announced ? [this.partial.head] : [];
      // Only a node whose witness has checked the merge has signed updates and scores.
      const isChecked = proofs.some((proof) => proof?.evidence);
      const figures = isChecked ? await this.#deps.requests.figures(round) : null;
      yield { checkpoint, residual: null, proofs, figures, heads };
      // Stop at a checkpoint of an earlier or the same round, because a node could otherwise send checkpoints without end.
      // The verification reports the wrong order.
      if (round <= before) return;
      before = round;
      next = ordinal + 1;
    }
  }

  async blob({ digest, size, maxBytes }: BlobWanted): Promise<Uint8Array | null> {
    if (size === null || size > maxBytes) return null;
    // Ask for each adapter only once. If the verification wants it a second time, the node did not have it.
    return this.#adapters.delete(digest) ? this.#deps.fetch({ digest, size }) : null;
  }

  /** Finds by bisection a number below which all checkpoints of the node are of rounds before `from`. */
  async #firstAt(from: number): Promise<number> {
    let low = 0;
    let high = from === 0 ? 0 : this.#last + 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const page = await this.#page(middle, 0);
      const round = page && readableCheckpoint(page.checkpoint)?.message.round;
      if ((round ?? from) < from) low = page!.ordinal + 1;
      else high = middle;
    }
    return low;
  }

  async #proofs({ ordinal, proofs }: Page, count: number): Promise<(UpdateProof | null)[]> {
    const all = [...proofs];
    while (all.length < count) {
      const page = await this.#page(ordinal, all.length);
      if (page?.ordinal !== ordinal || page.proofs.length === 0) break;
      all.push(...page.proofs);
    }
    return all;
  }

  /** Asks for a checkpoint. Returns the next later one that the node has; null if there is none up to the newest head. */
  async #page(wanted: number, first: number): Promise<Page | null> {
    const {
      checkpoint,
      ordinal = wanted,
      proofs,
    } = await this.#deps.requests.record({ ordinal: wanted, first });
    if (checkpoint === null || ordinal > this.#last) return null;
    if (ordinal >= wanted) return { ordinal, checkpoint, proofs };
    const text = `the node sent checkpoint number ${ordinal} instead of number ${wanted}`;
    throw verifyError('RECORD_INCOMPLETE', text, { ordinal, wanted });
  }
}
