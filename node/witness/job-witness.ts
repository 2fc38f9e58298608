import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError, messageOf } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { Figures, Head } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { encodeBundle } from '../../verify/bundle/encode.ts';
import type { ScoreTask, VerifyRequest } from '../../verify/process/messages.ts';
import type { CheckpointRecord, JobRecord } from '../../verify/record.ts';
import { openSwarmRecord } from '../../verify/swarm-record.ts';
import type { VerifyReport } from '../../verify/verify-job.ts';
import { request, verifyHead } from '../contact/requests.ts';
import { KEPT_PROOFS, keepProof } from './proofs.ts';
import type { ScoreTasks } from './score-tasks.ts';
import { WitnessBlobs, type WitnessBlobsDeps } from './witness-blobs.ts';
import { requireMemory, verificationBytes } from './witness-memory.ts';

/**
 * Number of calls of `follow` that do nothing after a failure, so that the witness does not ask an overloaded
 * coordinator again at once.
 */
const SKIPPED_LOOKS = 15;

/**
 * Number of records before a checkpoint's parent that are verified together with the checkpoint. These records and the
 * parent have the last three shares of a node that delivers in every round.
 */
const EARLIER_RECORDS = 3;

export interface JobWitnessDeps extends WitnessBlobsDeps {
  /** Verifies a bundle in another process. */
  verify(request: VerifyRequest, signal: AbortSignal): Promise<VerifyReport>;
  /** Decides which scores are measured. @default no score is measured */
  readonly scores?: Pick<ScoreTasks, 'prepare' | 'note'> | null;
  /** Returns the memory in bytes that a verification may use. */
  spareMemory(): number;
  /** Keeps a record that was checked, from which the node answers peers that verify the job. */
  keep(job: string, checked: { round: number; digest: string; record: CheckpointRecord }): void;
}

interface JobFacts {
  readonly job: string;
  readonly coordinator: string;
  /** Token of the invite with which the node joined the job. */
  readonly invite: string | null;
  /** Folder for proofs. The witness works in a subfolder with the digest of the job as its name. */
  readonly folder: string;
}

/** Verifies the new checkpoints of one job. */
export class JobWitness {
  readonly #facts: JobFacts;
  readonly #deps: JobWitnessDeps;
  readonly #blobs: WitnessBlobs;
  /** Folder for the blobs and the bundle of the checkpoint that is verified. */
  readonly #work: string;
  /**
   * `round`: the witness has finished with the checkpoints up to this round. `record`: the newest record that was
   * verified; null if the coordinator gave none.
   */
  #verified: { record: CheckpointRecord | null; round: number } | null = null;
  /**
   * Records before the newest verified record, oldest first. The verification computes earlier shares of the authors from
   * the scores in these records.
   */
  #earlier: readonly CheckpointRecord[] = [];
  #skips = 0;
  #running: Promise<void> | null = null;
  readonly #life = new AbortController();

  constructor(facts: JobFacts, deps: JobWitnessDeps) {
    this.#facts = facts;
    this.#deps = deps;
    this.#work = join(facts.folder, facts.job);
    this.#blobs = new WitnessBlobs({ ...facts, folder: this.#work }, deps);
  }

  /**
   * Verifies the checkpoints since the last call. The first call verifies only the newest checkpoint. A call during
   * another call does nothing.
   * @returns a promise that resolves when the running call ends. It never rejects
   */
  follow(newest: Head['checkpoint'], signal: AbortSignal): Promise<void> {
    if (this.#life.signal.aborted) return Promise.resolve();
    this.#running ??= this.#follow(newest, AbortSignal.any([signal, this.#life.signal])).finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Aborts the running call of `follow`, and deletes the working files. Later calls of `follow` do nothing. */
  async end(): Promise<void> {
    this.#life.abort();
    await this.#running;
    await this.#clear();
  }

  async #clear(): Promise<void> {
    await rm(this.#work, { recursive: true, force: true });
    this.#deps.space.release(this.#facts.job);
  }

  async #follow({ round }: Head['checkpoint'], signal: AbortSignal): Promise<void> {
    if (round <= (this.#verified?.round ?? -1) || this.#skips-- > 0) return;
    this.#skips = 0;
    try {
      await this.#verifyNew(this.#verified === null ? round : this.#verified.round + 1, round, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#skips = SKIPPED_LOOKS;
      const { log } = this.#deps;
      log.warn({ job: this.#facts.job, round, reason: messageOf(error) }, 'witness-failed');
      if (!isSwarmError(error)) log.debug({ error }, 'witness-error');
    }
  }

  async #verifyNew(from: number, newest: number, signal: AbortSignal): Promise<void> {
    const { job, coordinator, invite } = this.#facts;
    const { network, clock } = this.#deps;
    const answer = await request(this.#deps, coordinator, 'manifest', { job, invite }, signal);
    if (answer.head === null) return;
    const head = verifyHead(answer.head, { coordinator, job });
    const read = { job, coordinator, manifest: answer.manifest, head, signedHead: answer.head };
    const fetch = (ref: { digest: string; size: number }) => this.#blobs.fetch(ref, signal);
    const source = await openSwarmRecord(read, { network, clock, signal, fetch });
    // Use the parent's record that was verified before, because the coordinator could now send a different record.
    let parent = this.#verified?.record ?? null;
    let last = parent === null ? -1 : roundOf(parent);
    let isFirst = true;
    for await (const record of source.checkpoints(from)) {
      const round = roundOf(record);
      const isParent = isFirst && round < from;
      isFirst = false;
      if (isParent) {
        parent ??= record;
        last = Math.max(last, round);
        continue;
      }
      if (round <= last) {
        this.#refuse(`a checkpoint of round ${round} after one of round ${last}`, parent, newest);
        return;
      }
      await this.#verify(source, parent, record, round, signal);
      // The heads are left out, because a problem of a head would be reported again with each later checkpoint.
      if (parent !== null) {
        this.#earlier = [...this.#earlier, { ...parent, heads: [] }].slice(-EARLIER_RECORDS);
      }
      parent = record;
      last = round;
      this.#verified = { record, round };
    }
    // Take the newer of two heads, because the coordinator may answer with an older head than the node has.
    const announced = Math.max(head.checkpoint.round, newest);
    if (last >= announced) return;
    const what = last < 0 ? 'no checkpoint' : `only checkpoints up to round ${last}`;
    this.#refuse(`${what}, but announced one of round ${announced}`, parent, newest);
  }

  async #scoreTask(
    { manifest, contributors }: { manifest: Manifest; contributors: number },
    record: CheckpointRecord,
    signal: AbortSignal,
  ): Promise<ScoreTask | null> {
    const figures = figuresOf(record);
    if (figures === null) return null;
    const task = {
      job: this.#facts.job,
      manifest,
      figures,
      verificationBytes: verificationBytes(manifest, contributors),
    };
    return this.#deps.scores?.prepare(task, signal) ?? null;
  }

  /**
   * Reports that the coordinator gave a wrong record. Continues with the next checkpoint that the coordinator announces.
   */
  #refuse(what: string, record: CheckpointRecord | null, round: number): void {
    const { job } = this.#facts;
    const reason = `VERIFY_SOURCE: the coordinator gave ${what}`;
    this.#deps.log.error({ job, round, code: 'VERIFY_SOURCE', file: null, reason }, 'witness-found-problem');
    this.#verified = { record, round };
  }

  /** Verifies a bundle of a checkpoint and its parent. Keeps the bundle as proof if a check finds a problem. */
  async #verify(
    source: JobRecord,
    parent: CheckpointRecord | null,
    record: CheckpointRecord,
    round: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { job, folder } = this.#facts;
    const { log, clock, scores: tasks = null } = this.#deps;
    const checkpoints = [...this.#earlier, ...(parent === null ? [] : [parent]), record];
    const { contributors } = verifyMessage('checkpoint', record.checkpoint).message;
    const facts = {
      manifest: verifyMessage('manifest', source.manifest).message,
      contributors: contributors.length,
      round,
    };
    requireMemory(facts, this.#deps.spareMemory());
    await mkdir(this.#work, { recursive: true });
    const file = join(this.#work, 'checking.bundle');
    const { manifest, settings } = source;
    try {
      const scores = await this.#scoreTask(facts, record, signal);
      const blobs = await this.#blobs.gather(source, parent, record, { round, withScored: scores !== null });
      await writeDurably(file, async (handle) => {
        const bundle = { manifest, settings, checkpoints: () => checkpoints, blobs };
        for await (const part of encodeBundle(bundle)) await handle.writeFile(part);
      });
      const startedAt = clock.monotonic();
      const report = await this.#deps.verify({ file, job, from: round, scores }, signal).finally(() => {
        if (scores !== null) tasks?.note(clock.monotonic() - startedAt);
      });
      const measured = report.checkpoints.at(-1)?.scores ?? null;
      // Keep the record whatever the report says. Otherwise the coordinator could ask this node for the record, and learn
      // whether the witness has found a problem.
      const { digest } = verifyMessage('checkpoint', record.checkpoint);
      this.#deps.keep(job, { round, digest, record });
      const [problem] = report.problems;
      if (problem === undefined) {
        log.debug({ job, round, recomputed: report.recomputed, scores: measured }, 'witness-verified');
        return;
      }
      const proof = await keepProof(file, { folder, job, round });
      const { code, message } = problem;
      const place =
        proof === null
          ? `No proof is kept, because ${folder} has ${KEPT_PROOFS} proofs against this job`
          : `The bundle is in ${proof}`;
      log.error(
        { job, round, code, file: proof, reason: `${code}: ${message}. ${place}` },
        'witness-found-problem',
      );
    } finally {
      // If the verification was aborted, for example by a pause, keep the fetched blobs. The witness
      // continues with them after the pause.
      if (signal.aborted) await rm(file, { force: true });
      else await this.#clear();
    }
  }
}

/** Returns the figures of a record; null if it has none or they are not valid, which the verification reports. */
function figuresOf({ figures }: CheckpointRecord): Figures | null {
  if (figures === null) return null;
  try {
    return verifyMessage('figures', figures).message;
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return null;
  }
}

function roundOf({ checkpoint }: CheckpointRecord): number {
  return verifyMessage('checkpoint', checkpoint).message.round;
}
