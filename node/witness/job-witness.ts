import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { renameDurably, writeDurably } from '../../common/durable.ts';
import { isSwarmError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { Head } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { BlobCollector } from '../../storage/blob-collector.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import { blobsOf, encodeBundle } from '../../verify/bundle/encode.ts';
import type { VerifyRequest } from '../../verify/process/messages.ts';
import type { CheckpointRecord, JobRecord } from '../../verify/record.ts';
import { openSwarmRecord } from '../../verify/swarm-record.ts';
import type { VerifyReport } from '../../verify/verify-job.ts';
import { request, verifyHead } from '../contact/requests.ts';

/**
 * Number of looks that the witness skips after a failure, so that it does not ask an overloaded coordinator
 * again at once.
 */
const SKIPPED_LOOKS = 15;
/**
 * Maximum number of bundles that are kept as proof against a job. One bundle is a proof, and a hostile coordinator must
 * not fill the disk: a bundle has up to a few GiB.
 */
export const KEPT_PROOFS = 4;

export interface JobWitnessDeps {
  readonly network: SwarmNetwork;
  /** Store into which the network fetches blobs. */
  readonly blobs: BlobStore;
  /** Store for the blobs of the checkpoint that is verified. */
  readonly kept: BlobStore;
  readonly collector: Pick<BlobCollector, 'withScope'>;
  readonly clock: Clock;
  readonly log: Logger;
  verify(request: VerifyRequest, signal: AbortSignal): Promise<VerifyReport>;
}

interface JobFacts {
  readonly job: string;
  readonly coordinator: string;
  /** Token of the invite with which the node joined the job. */
  readonly invite: string | null;
  readonly folder: string;
}

/** Verifies the new checkpoints of one job. */
export class JobWitness {
  readonly #facts: JobFacts;
  readonly #deps: JobWitnessDeps;
  readonly #signal: AbortSignal;
  /** The newest verified checkpoint, with the record that was verified. */
  #verified: { record: CheckpointRecord; round: number } | null = null;
  #skips = 0;

  constructor(facts: JobFacts, deps: JobWitnessDeps, signal: AbortSignal) {
    this.#facts = facts;
    this.#deps = deps;
    this.#signal = signal;
  }

  /** Verifies the checkpoints since the last call. The first call verifies only the newest checkpoint. Never rejects. */
  async follow({ round }: Head['checkpoint']): Promise<void> {
    if (round <= (this.#verified?.round ?? -1) || this.#skips-- > 0) return;
    this.#skips = 0;
    try {
      await this.#verifyNew(this.#verified === null ? round : this.#verified.round + 1);
    } catch (error) {
      if (this.#signal.aborted) return;
      this.#skips = SKIPPED_LOOKS;
      const { log } = this.#deps;
      log.warn({ job: this.#facts.job, round, reason: messageOf(error) }, 'witness-failed');
      if (!isSwarmError(error)) log.debug({ error }, 'witness-error');
    }
  }

  async #verifyNew(from: number): Promise<void> {
    const { job, coordinator, invite } = this.#facts;
    const { network, clock } = this.#deps;
    const signal = this.#signal;
    const answer = await request(this.#deps, coordinator, 'manifest', { job, invite }, signal);
    if (answer.head === null) return;
    const head = verifyHead(answer.head, { coordinator, job });
    const read = { job, coordinator, manifest: answer.manifest, head, signedHead: answer.head };
    const fetch = (ref: { digest: string; size: number }) => this.#fetch(ref);
    const record = await openSwarmRecord(read, { network, clock, signal, fetch });
    let parent: CheckpointRecord | null = null;
    for await (const next of record.checkpoints(from)) {
      const { round } = verifyMessage('checkpoint', next.checkpoint).message;
      // Uses the record of the parent that was verified before, because the coordinator could now send another record.
      if (round < from) parent = this.#verified?.record ?? next;
      else {
        await this.#verify(record, parent, next, round);
        parent = next;
        this.#verified = { record: next, round };
      }
    }
  }

  /** Verifies a bundle of a checkpoint and its parent. Keeps the bundle as proof if a check finds a problem. */
  async #verify(
    source: JobRecord,
    parent: CheckpointRecord | null,
    record: CheckpointRecord,
    round: number,
  ): Promise<void> {
    const { job, folder } = this.#facts;
    const { kept, log } = this.#deps;
    const checkpoints = parent === null ? [record] : [parent, record];
    const held = await this.#gather(source, parent, record);
    await mkdir(folder, { recursive: true });
    const file = join(folder, 'checking.bundle');
    const { manifest, settings } = source;
    try {
      await writeDurably(file, async (handle) => {
        const bundle = { manifest, settings, checkpoints: () => checkpoints, blobs: kept };
        for await (const part of encodeBundle(bundle)) await handle.writeFile(part);
      });
      const report = await this.#deps.verify({ file, job, from: round }, this.#signal);
      const [problem] = report.problems;
      if (problem === undefined) {
        log.debug({ job, round, recomputed: report.recomputed }, 'witness-verified');
        return;
      }
      const proof = await this.#proofFile(round);
      if (proof !== null) await renameDurably(file, proof);
      const { code, message } = problem;
      const place =
        proof === null
          ? `No proof is kept, because ${folder} has ${KEPT_PROOFS} proofs against this job`
          : `The proof is in ${proof}`;
      log.error(
        { job, round, code, file: proof, reason: `${code}: ${message}. ${place}` },
        'witness-found-problem',
      );
    } finally {
      await rm(file, { force: true });
      for (const digest of held) await kept.delete(digest);
    }
  }

  /** Returns the path for a proof, or null if the folder has enough proofs against the job from other rounds. */
  async #proofFile(round: number): Promise<string | null> {
    const { job, folder } = this.#facts;
    const prefix = `${job.slice(0, 12)}-round-`;
    const name = `${prefix}${round}.bundle`;
    const kept = (await readdir(folder)).filter((one) => one.startsWith(prefix) && one !== name);
    return kept.length < KEPT_PROOFS ? join(folder, name) : null;
  }

  /**
   * Fetches the blobs of a checkpoint, and the adapter and residual of its parent.
   * @returns the digests of the blobs
   */
  async #gather(
    source: JobRecord,
    parent: CheckpointRecord | null,
    record: CheckpointRecord,
  ): Promise<string[]> {
    const held: string[] = [];
    const before = parent === null ? [] : blobsOf({ ...parent, proofs: [] }).filter(isStart);
    for (const wanted of [...before, ...blobsOf(record)]) {
      const bytes = await source.blob(wanted);
      if (bytes !== null) held.push(await this.#deps.kept.put(bytes));
    }
    return held;
  }

  #fetch(ref: { digest: string; size: number }): Promise<Uint8Array | null> {
    const { network, blobs, collector } = this.#deps;
    const { coordinator } = this.#facts;
    return collector.withScope(async (scope) => {
      await scope.hold(ref.digest);
      try {
        await network.fetchBlob(ref, { holders: [coordinator], signal: this.#signal });
        return await blobs.get(ref.digest, { maxBytes: ref.size });
      } catch (error) {
        this.#signal.throwIfAborted();
        // The coordinator does not have the blob any more, or does not give it to this node.
        if (isSwarmError(error, 'BLOB_UNAVAILABLE')) return null;
        throw error;
      }
    });
  }
}

function isStart({ use }: { use: string }): boolean {
  return use === 'adapter' || use === 'residual';
}
